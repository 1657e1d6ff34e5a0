"""The commands that only read a study, run one after the other in this process."""

from pathlib import Path

from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.report.live import LiveStudy


def commands(where, page):
    """Each with its arguments; `page` is the file that the report is written to."""
    return {
        "front": ["front", where],
        "show": ["show", where, "0"],
        "baseline": ["show", where, "baseline"],
        "status": ["status", where],
        "explain": ["explain", where],
        "compare": ["compare", where, "baseline", "0"],
        "report": ["report", where, "--to", page],
        "list": ["studies", "list", str(Path(where).parent)],
    }


def outcomes(where, page):
    """What came of each command: empty where it has shown the study, else what was raised. Without a `page` no report
    is written."""
    asked = {name: arguments for name, arguments in commands(where, page).items() if page or name != "report"}
    found = {name: _outcome(arguments) for name, arguments in asked.items()}
    return found | {"serve": _served(where)}


def _outcome(arguments):
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None:
        return f"{type(done.exception).__name__}: {done.exception} {done.output[-300:]}"
    return "" if "fake" in done.output or arguments[0] not in ("front", "status", "studies") else "no study shown"


def _served(where):
    try:
        live = LiveStudy(where)
    except Exception as error:  # noqa: BLE001 - a test shows it
        return f"{type(error).__name__}: {error}"
    try:
        return "" if '"fake"' in live.data() else "no study served"
    finally:
        live.close()


def state_of(folder):
    """Every file below a folder with its size and the time of its last change."""
    stats = {path: path.stat() for path in sorted(Path(folder).rglob("*"))}
    return {str(path): (one.st_size, one.st_mtime_ns) for path, one in stats.items()}
