"""`vitsearch-agent verify`: verify a bundle of `vitsearch ship`, here or on a device."""

import argparse
import contextlib
import json
import os
from typing import Iterator, Optional

from vitsearch_evaluators.base.atomic_files import write_bytes
from vitsearch_evaluators.base.printable import printable
from vitsearch_evaluators.cli.measure import programs
from vitsearch_evaluators.cli.progress import Progress
from vitsearch_evaluators.errors import DamagedBundle, InvalidRequest
from vitsearch_evaluators.measure.local_job import Listener
from vitsearch_evaluators.verify import bundle as bundles
from vitsearch_evaluators.verify import checks
from vitsearch_evaluators.verify.bench import Bench, ThisMachine
from vitsearch_evaluators.verify.bundle import Bundle
from vitsearch_evaluators.verify.junit import junit
from vitsearch_evaluators.verify.verify import Asked, MakeBench, Report, verify


def run(arguments: argparse.Namespace) -> int:
    """Verify a bundle on this machine, print the checks and return the exit code: 1 if one has failed."""

    def here(bundle: Bundle) -> Bench:
        if arguments.cpus is None:
            _pin_as_shipped(bundle)
        progress = Progress(bundle.manifest.name, bundle.manifest.protocol)
        listener = Listener(progress.started, progress.waiting)
        return ThisMachine(bundle, programs(bundle.manifest.runtime, arguments.program), listener)

    return run_with(arguments, here)


def _pin_as_shipped(bundle: Bundle) -> None:
    """Use the processors that measured the model, if this process may use these and more."""
    shipped = bundle.manifest.device.environment.get("affinity")
    if hasattr(os, "sched_setaffinity") and isinstance(shipped, list) and set(shipped) < os.sched_getaffinity(0):
        os.sched_setaffinity(0, shipped)


def run_with(arguments: argparse.Namespace, make_bench: MakeBench) -> int:
    """As `run`, on what `make_bench` makes."""
    with _opened(arguments.baseline) as baseline:
        asked = Asked(arguments.data, not arguments.no_measure, baseline)
        report = _verified(arguments.bundle, make_bench, asked)
    if arguments.junit is not None:
        try:
            write_bytes(arguments.junit, junit(report))
        except OSError as error:
            raise InvalidRequest(f"--junit {arguments.junit} cannot be written: {error.strerror}") from error
    print(json.dumps(report.to_json(), indent=2) if arguments.json else text(report))
    return 0 if report.passed else 1


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


def _verified(path: str, make_bench: MakeBench, asked: Asked) -> Report:
    """The report on a bundle. A zip that cannot be unpacked is a failed check, as a changed file in a folder is."""
    try:
        with bundles.opened(path) as folder:
            return verify(folder, make_bench, asked)
    except DamagedBundle as damage:
        return Report(os.path.basename(path), (checks.unreadable(str(damage)),))


def text(report: Report) -> str:
    """Return a line for each check, and the verdict."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"{check.outcome:<10}  {check.name:<{width}}  {check.message}" for check in report.checks]
    verdict = f"bundle {report.name}: {'passed' if report.passed else 'failed'}"
    return "\n".join(map(printable, [*lines, verdict]))
