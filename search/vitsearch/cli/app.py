"""The command line. Heavy imports stay inside the commands: `vitsearch --help` loads none of them."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vitsearch import __version__
from vitsearch.cli import bundles, converters, device_commands, first_files, plans, report_commands
from vitsearch.cli.arguments import AsJson, command_text, resumable
from vitsearch.cli.results import commands, databases, retarget, studies
from vitsearch.core.image_size import LEAST_PIXELS, MOST_PIXELS, ImageSize
from vitsearch.core.json_value import json_text
from vitsearch.errors import PlanError, VitsearchError
from vitsearch.storage.atomic_files import no_room
from vitsearch_agent.base.printable import printable, printable_lines
from vitsearch_agent.base.python import safe_path

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""By Python's default, 700, the garbage collector walks through the records of a large study again and again."""

app = typer.Typer(
    help="Compress vision models for edge devices by measured, multi-objective search.",
    no_args_is_help=True,
    rich_markup_mode=None,  # with it, help takes three times as long
    pretty_exceptions_enable=False,
)

app.add_typer(device_commands.app, name="devices")
app.add_typer(studies.app, name="studies")
app.add_typer(databases.app, name="db")
app.command()(bundles.ship)
app.command()(bundles.verify)

SpaceFile = Annotated[Path, typer.Argument(metavar="SPACE", help="A space file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Values that replace those of the file: search.trials=10",
        show_default=False,
    ),
]


def _size(text: str) -> ImageSize:
    try:
        size = ImageSize.of_text(text)
    except PlanError as error:
        raise typer.BadParameter(str(error)) from error
    if not LEAST_PIXELS <= min(size.sides) <= max(size.sides) <= MOST_PIXELS:
        raise typer.BadParameter(f"{size} is out of range; allowed: {LEAST_PIXELS} to {MOST_PIXELS} pixels a side")
    return size


app.command()(first_files.init)


@app.command()
def run(
    space: SpaceFile,
    overrides: Overrides = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="A running Ray cluster (host:port); default: start Ray on this machine.",
            envvar="RAY_ADDRESS",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed plans again.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end, progress on standard error.")] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append JSON lines of stages and trials here; default: a new file in the folder of the study.",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="PORT",
            help="Serve metrics for Prometheus on this port of 127.0.0.1, or on HOST:PORT.",
            show_default=False,
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Send trials to an MLflow server or store.", show_default=False),
    ] = None,
    observer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SETTING", help="Report to an observer that is installed.", show_default=False),
    ] = None,
) -> None:
    """Search for the best models; the same command resumes.

    Trains, exports and measures plans until the study is complete.
    """
    from vitsearch import api
    from vitsearch.cli import live
    from vitsearch.search.observers.observe import Observing, settings_of

    judged = api.judged_space(space, overrides or ())
    for warning in judged.warnings:
        typer.echo(f"warning: {warning}", err=True)
    loaded = judged.require().space
    observing = Observing(log_file, settings_of(observer, mlflow=mlflow, prometheus=metrics))
    stream = sys.stderr if as_json else sys.stdout
    is_plain = plain or as_json or not sys.stdout.isatty()
    with resumable(), live.progress(tuple(loaded.objectives), is_plain, stream) as progress:
        ended = api.run(
            loaded, ray_address=ray_address, retry_failed=retry_failed, progress=progress, observing=observing
        )
    if as_json:
        from vitsearch.cli.printed import PrintedRun

        typer.echo(json_text(PrintedRun(loaded.study, ended.reason, ended.complete)))
        return
    from vitsearch.study.lookup import text_for  # optuna and sqlalchemy, which the run has loaded

    front = command_text("front", text_for(loaded.storage, loaded.study))
    typer.echo(f"{printable(ended.reason)}. The front: {front}")


@app.command()
def check(
    space: SpaceFile,
    overrides: Overrides = None,
    devices: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="NAME_OR_FILE",
            help="Also judge what runs on a device, without the device: by a description that comes with vitsearch "
            "(jetson_nano, raspberry_pi5, ...) or a file of 'vitsearch devices describe'. Once for each device of a "
            "fleet, such as --as nano=jetson_nano --as pi5=raspberry_pi5.",
            show_default=False,
        ),
    ] = None,
    costs: Annotated[
        bool,
        typer.Option("--costs/--no-costs", help="Also count models and time training steps here, which takes seconds."),
    ] = True,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Also try what a run needs: the database, the place of its files, devices, hub weights.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Report every problem of a space file, and its costs.

    The data and the weights files are checked too, with warnings about data that makes accuracies unreliable. Without
    problems, prints what the search will cost: plans, models, limits that none can meet, disk space, time of workers
    and device. Each part is printed as soon as it is known. With --connect, nothing is changed at the places that are
    tried.
    """
    from vitsearch.cli.checking import CheckRequest, Report, check_all

    check_all(CheckRequest(space, tuple(overrides or ()), tuple(devices or ()), costs, connect), Report(as_json))


app.command()(commands.status)
app.command()(commands.front)
app.command()(commands.show)
app.command()(commands.compare)
app.command()(commands.explain)
app.command()(retarget.retarget)
app.command()(report_commands.report)
app.command()(report_commands.serve)
app.command()(report_commands.dashboard)
app.command()(plans.plan)


@app.command()
def capabilities(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="BACKBONE", help="Default: one of each design.", show_default=False),
    ] = None,
    tries: Annotated[
        bool,
        typer.Option(
            "--try",
            help="Build each BACKBONE with random weights, export it at every precision and run the files here; "
            "exit code 1 if something does not work.",
        ),
    ] = False,
    resolution: Annotated[
        ImageSize | None,
        typer.Option(
            help="With --try: pixels, a side or HEIGHTxWIDTH; default: those of the backbone.",
            show_default=False,
            metavar="SIZE",
            parser=_size,
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="With --try: a runtime, may be repeated; default: those whose files are written in seconds.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --try: print JSON.")] = False,
) -> None:
    """List what each backbone and each runtime supports.

    Operators, precisions, and why others are not supported, in Markdown. With --try, find out what works.
    """
    if tries:
        from vitsearch.cli.capabilities import try_backbones

        if not names:
            raise typer.BadParameter("--try needs the name of a backbone")
        raise typer.Exit(0 if try_backbones(names, resolution, backend or [], as_json) else 1)
    if resolution is not None or as_json or backend:
        raise typer.BadParameter("--resolution, --backend and --json describe what --try does: add --try")
    from vitsearch.cli.capabilities import describe, examples, expanded, say

    typer.echo(describe(expanded(names) if names else examples(), say))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show what can run here and on devices, and what not.

    Prints the line that installs what is missing. The exit code is 1 if a known device does not answer.
    """
    from vitsearch.cli.doctor import examine

    if not examine(as_json):
        raise typer.Exit(1)


app.command("install-converter")(converters.install_converter)
app.command("agent-pyz")(first_files.agent_pyz)


@app.command()
def schema(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="The JSON Schema of what this command prints with --json, such as front or studies list.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print a JSON Schema: of space files, or of --json.

    Without COMMAND that of space files, for editors.
    """
    if command:
        from vitsearch.cli.json_forms import json_form

        typer.echo(json.dumps(json_form(" ".join(command)), indent=2))
        return
    from vitsearch.space import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"vitsearch {__version__}")
        raise typer.Exit


def main() -> None:
    """The one place where our errors become a message and an exit code."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    os.umask(os.umask(0o077) | 0o002)  # who can write in a study decides what is trained: never anybody
    try:
        with safe_path():
            app()
    except VitsearchError as error:
        typer.echo(printable_lines(str(error)), err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if (reason := no_room(error)) is None:
            raise
        typer.echo(f"{reason}; make room and run the same command again", err=True)
        sys.exit(1)
    except Exception as error:
        if (line := _lost_database(error)) is None:
            raise
        typer.echo(printable_lines(line), err=True)
        sys.exit(1)


def _lost_database(error: Exception) -> str | None:
    """The error of a database server that went away, in one line; None for other errors."""
    if "sqlalchemy" not in sys.modules:
        return None
    from vitsearch.storage.ledger.outage import lost  # sqlalchemy: only where it raised

    return lost(error)
