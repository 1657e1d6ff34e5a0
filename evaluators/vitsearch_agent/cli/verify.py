"""`vitsearch-agent verify`: verify a bundle of `vitsearch ship`, here or on a device."""

import argparse
import contextlib
import json
import os
from typing import Callable, Iterator, Optional

from vitsearch_agent.base.atomic_files import write_bytes
from vitsearch_agent.base.plain_files import require_replaceable
from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli.measure import programs
from vitsearch_agent.cli.progress import Progress
from vitsearch_agent.cli.terminal import say, say_prose
from vitsearch_agent.errors import DamagedBundle, InvalidRequest
from vitsearch_agent.measure.local_job import JobListener
from vitsearch_agent.server import restrictions
from vitsearch_agent.verify import bundle as bundles
from vitsearch_agent.verify import checks
from vitsearch_agent.verify.bundle import Bundle
from vitsearch_agent.verify.checks import FAILED, PASSED
from vitsearch_agent.verify.junit import junit
from vitsearch_agent.verify.model_runner import LocalRunner, ModelRunner
from vitsearch_agent.verify.verify import ONLY_CHECKSUMS, MakeRunner, Report, VerifyOptions, verify

EXIT_CODES = {PASSED: 0, FAILED: 1, ONLY_CHECKSUMS: 3}
"""By the verdict; 2 is that of an error: there is no bundle to verify. With --no-measure, ONLY_CHECKSUMS is 0 too."""


def run(arguments: argparse.Namespace) -> int:
    """Verify a bundle on this machine, print the checks and return the exit code (`EXIT_CODES`)."""

    with contextlib.ExitStack() as shown:

        def here(bundle: Bundle) -> ModelRunner:
            if arguments.cpus is None:
                _pin_as_shipped(bundle)
            progress = Progress(bundle.manifest.name, bundle.manifest.protocol)
            shown.callback(progress.close)
            listener = JobListener(progress.started, progress.waiting)
            return LocalRunner(bundle, programs(bundle.manifest.runtime, arguments.program), listener)

        return run_with(arguments, here, shown.close)


def _nothing() -> None:
    pass


def _pin_as_shipped(bundle: Bundle) -> None:
    """Use the processors that measured the model, if this process may use these and more."""
    shipped = bundle.manifest.device.environment.get("affinity")
    if not hasattr(os, "sched_setaffinity") or not isinstance(shipped, list) or not shipped:
        return
    if all(type(cpu) is int for cpu in shipped) and set(shipped) < os.sched_getaffinity(0):
        os.sched_setaffinity(0, shipped)


@contextlib.contextmanager
def _writing_junit(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidRequest(f"--junit {path} cannot be written: {error.strerror}") from error


def run_with(arguments: argparse.Namespace, make_runner: MakeRunner, ended: Callable[[], None] = _nothing) -> int:
    """As `run`, on what `make_runner` makes; `ended` is called when all is checked, before anything is printed."""
    if arguments.junit is not None:
        with _writing_junit(arguments.junit):
            require_replaceable(arguments.junit)  # before minutes of measuring
    with _opened(arguments.baseline) as baseline:
        options = VerifyOptions(arguments.data, not arguments.no_measure, baseline, arguments.signers)
        report = _verified(arguments.bundle, make_runner, options)
    ended()
    if arguments.junit is not None:
        with _writing_junit(arguments.junit):
            write_bytes(arguments.junit, junit(report))
    if arguments.json:
        say(json.dumps(report.to_json(), indent=2))
    else:
        say_prose(text(report, options))
    if report.verdict == ONLY_CHECKSUMS and arguments.no_measure:
        return EXIT_CODES[PASSED]  # what was typed is what was judged
    return EXIT_CODES[report.verdict]


@contextlib.contextmanager
def _opened(path: Optional[str]) -> Iterator[Optional[str]]:
    if path is None:
        yield None
        return
    try:
        with bundles.opened(path) as folder:
            yield folder
    except DamagedBundle as damage:
        raise InvalidRequest(f"--baseline {path}: {damage}") from damage


def _verified(path: str, make_runner: MakeRunner, options: VerifyOptions) -> Report:
    """The report on a bundle. A zip that cannot be unpacked is a failed check, as a changed file in a folder is."""
    try:
        with bundles.opened(path) as folder:
            return verify(folder, make_runner, options)
    except DamagedBundle as damage:
        return Report(os.path.basename(path), (checks.unreadable(str(damage)),))
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "this machine has too little memory"
        raise InvalidRequest(f"{path} cannot be verified: {reason}") from error


def text(report: Report, options: VerifyOptions) -> str:
    """Return a line for each check, what the model was kept from while it ran, and the verdict."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"{check.outcome:<10}  {check.name:<{width}}  {check.message}" for check in report.checks]
    if report.restrictions:
        lines += ["What the model was kept from while it ran:"]
        lines += [f"  {restrictions.text(restriction)}" for restriction in report.restrictions]
    typed = " (nothing was measured: --no-measure)" if report.verdict != FAILED and not options.measures else ""
    return "\n".join(map(printable, [*lines, f"bundle {report.name}: {report.verdict}{typed}"]))
