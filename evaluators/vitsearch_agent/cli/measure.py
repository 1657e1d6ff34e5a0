"""`vitsearch-agent measure`: measure files without an agent, one in full or several in a table."""

import argparse
import json
import os
import re
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent import artifacts, power, runtimes
from vitsearch_agent.base.system import THIS_MACHINE, user_cache_folder
from vitsearch_agent.cli import measurement_text
from vitsearch_agent.cli.progress import Progress
from vitsearch_agent.config import RUNTIME_DEFAULT, PowerConfig, RuntimeConfig
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.launch import needs_of
from vitsearch_agent.measure.local_job import JobListener, Request, local_job
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.measure.power_phase import MeteredPhase
from vitsearch_agent.wire.measure_protocol import MeasureProtocol, Shapes
from vitsearch_agent.wire.protocol import PROTOCOLS, Measurement

_POWER_S, _IDLE_S = 10.0, 3.0
_SIZE = re.compile(r"[0-9]{1,9}\Z")


class MeasureRequest(NamedTuple):
    """How to measure files."""

    job: Request
    meter: PowerConfig = PowerConfig("none")


def run(arguments: argparse.Namespace) -> int:
    """Measure the files, print the results and return the exit code.

    With a single file, the error that prevents its measurement is raised.
    """
    request = _request(arguments)
    check(arguments.models, request)
    if len(arguments.models) == 1:
        measurement = _measure(arguments.models[0], request)
        print(_json(measurement.to_json()) if arguments.json else measurement_text.summary(measurement))
        return 0
    results = [_result(path, request) for path in arguments.models]
    print(_json([result.to_json() for result in results]) if arguments.json else measurement_text.comparison(results))
    return 1 if any(result.error for result in results) else 0


def check(paths: Sequence[str], request: MeasureRequest) -> None:
    """Raise InvalidRequest for a missing file or a wrong option, before anything is measured."""
    for path in paths:
        for file in artifacts.model_files(path).values():
            if not os.path.isfile(file):
                raise InvalidRequest(f"{file} is not a file")
    runtimes.create(request.job.runtime).check_options(request.job.options)


def measure_file(path: str, request: MeasureRequest, progress: Progress) -> Measurement:
    """Measure a file in child processes, as the agent does, but without a server and a queue."""
    recorder = MeteredPhase(request.meter, THIS_MACHINE)
    references = ReferenceStore(os.path.join(user_cache_folder(), "references.json"))
    listener = JobListener(progress.started, progress.waiting)
    with local_job("measure", artifacts.model_files(path), request.job, listener) as job:
        return measure_job(job.spec, job.context, job.folder, recorder, on_event=progress.event, references=references)


def parse_options(texts: Sequence[str]) -> Dict[str, Any]:
    """Parse KEY=VALUE texts; a value may be JSON."""
    return dict(map(_parse_option, texts))


def _parse_option(text: str) -> Tuple[str, object]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidRequest(f"--option: expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def parse_shapes(texts: Sequence[str]) -> Shapes:
    """Parse NAME=SIZES texts; InvalidRequest for one that is not of this form and for a name that comes twice."""
    shapes: Dict[str, Tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        numbers = [int(size) if _SIZE.match(size) else 0 for size in sizes.split(",")]
        if not name or not all(numbers):
            raise InvalidRequest(
                f"--shape: expected NAME=SIZES with whole numbers above 0, such as images=1,3,640,640; got {text!r}"
            )
        if name in shapes:
            raise InvalidRequest(f"--shape: {name} is given twice")
        shapes[name] = tuple(numbers)
    return shapes


def _request(arguments: argparse.Namespace) -> MeasureRequest:
    protocol = PROTOCOLS[arguments.protocol]._replace(
        threads=arguments.threads,
        batch=arguments.batch,
        shapes=parse_shapes(arguments.shape),
        throughput_s=arguments.throughput,
        streams=arguments.streams,
        soak_s=arguments.soak,
    )
    protocol = MeasureProtocol.from_json(protocol.to_json(), "measure")  # checks the ranges
    meter = PowerConfig("none")
    if arguments.meter is not None:
        protocol, meter = protocol._replace(power_s=_POWER_S, idle_s=_IDLE_S), PowerConfig(arguments.meter)
        power.check(meter, THIS_MACHINE)
    chosen = programs(arguments.runtime, arguments.program)
    return MeasureRequest(Request(arguments.runtime, parse_options(arguments.option), protocol, chosen), meter)


def _measure(path: str, request: MeasureRequest) -> Measurement:
    progress = Progress(os.path.basename(path), request.job.protocol)
    try:
        return measure_file(path, request, progress)
    finally:
        progress.close()


def _result(path: str, request: MeasureRequest) -> measurement_text.FileResult:
    """Measure one of several files; its error does not stop the measurement of the others."""
    try:
        return measurement_text.FileResult(path, _measure(path, request), None)
    except AgentError as error:
        return measurement_text.FileResult(path, None, error)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True)


def programs(runtime: str, program: Optional[str]) -> RuntimeConfig:
    """Return the configuration of a runtime that runs in `program`, or in the first one found."""
    if program is None:
        return RUNTIME_DEFAULT
    return RuntimeConfig(tool=program) if needs_of(runtime).tools else RuntimeConfig(python=program)
