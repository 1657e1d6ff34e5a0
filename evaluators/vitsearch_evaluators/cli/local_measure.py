"""Measure files without an agent: `vitsearch-agent measure`."""

import json
import os
import sys
import tempfile
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, TextIO, Tuple

from vitsearch_evaluators import __version__, artifacts, runtimes
from vitsearch_evaluators.base import processes
from vitsearch_evaluators.base.canonical_json import file_digest
from vitsearch_evaluators.base.system import THIS_MACHINE
from vitsearch_evaluators.conditions.environment import environment_id, fingerprint
from vitsearch_evaluators.conditions.job_context import JobContext
from vitsearch_evaluators.config import RUNTIME_DEFAULT, PowerConfig, RuntimeConfig
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.launch import Launch
from vitsearch_evaluators.measure.measure_job import measure_job
from vitsearch_evaluators.measure.power_phase import MeteredPhase
from vitsearch_evaluators.measure.runtime_check import check_runtime
from vitsearch_evaluators.wire.job_spec import MeasureProtocol
from vitsearch_evaluators.wire.protocol import BlobRef, JobSpec, Measurement, job_id

_LOCAL_DEVICE = "local"


class MeasureRequest(NamedTuple):
    """How files are to be measured; `programs` as the device's configuration would say."""

    runtime: str
    options: Mapping[str, Any]
    plan: MeasureProtocol
    meter: PowerConfig = PowerConfig("none")
    programs: RuntimeConfig = RUNTIME_DEFAULT


def check(paths: Sequence[str], asked: MeasureRequest) -> None:
    """Raise InvalidRequest before anything is measured where that is already clear."""
    for path in paths:
        for at in artifacts.model_files(path).values():
            if not os.path.isfile(at):
                raise InvalidRequest(f"{at} is no file")
    runtimes.create(asked.runtime).check_options(asked.options)


def measure_file(path: str, asked: MeasureRequest, progress: "Progress") -> Measurement:
    """Measure a file in fresh children, as the agent does, but with no server and no queue."""
    files = artifacts.model_files(path)
    blobs = tuple(BlobRef(name, file_digest(at), os.path.getsize(at)) for name, at in files.items())
    spec = JobSpec("measure", blobs, asked.runtime, asked.options, asked.plan)
    stop = StopSignal()
    processes.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="vitsearch-") as folder:
        info = check_runtime(asked.runtime, JobFolder(folder, stop), asked.programs)
        artifacts.refuse_unfit(spec.artifact_kind, files, info)
        environment = environment_id(fingerprint(__version__, (info,), THIS_MACHINE))
        identifier = job_id(spec, _LOCAL_DEVICE)
        context = JobContext(identifier, _LOCAL_DEVICE, environment, 1, 0.0)
        for name, at in files.items():
            os.symlink(os.path.abspath(at), os.path.join(folder, name))
        job_folder = JobFolder(folder, stop, progress.started, Launch.of(info, os.path.join(folder, "cache")))
        return measure_job(spec, context, job_folder, MeteredPhase(asked.meter, THIS_MACHINE), on_event=progress.event)


class Progress:
    """Tells the person who waits what is going on: each process in one line of a terminal that the next takes over,
    elsewhere only what takes long. The words are those of `events`."""

    def __init__(self, model: str, plan: MeasureProtocol, stream: Optional[TextIO] = None) -> None:
        self._model = model
        self._processes = plan.processes
        self._stream = sys.stderr if stream is None else stream
        self._passing = self._stream.isatty()
        self._latency = 0

    def started(self, phase: str, _process: processes.ProcessId) -> None:
        if phase == "latency":
            self._latency += 1
        if self._passing:
            of = f" {min(self._latency, self._processes)} of {self._processes}" if phase == "latency" else ""
            self._show(f"{self._model}: {phase}{of}")
        elif phase != "latency":
            self._line(f"{phase} phase")

    def event(self, what: str, **details: Any) -> None:
        told = ", ".join(f"{key} {value}" for key, value in details.items())
        self.close()
        self._line(f"{what} ({told})" if told else what)

    def close(self) -> None:
        """Take the passing line away."""
        if self._passing:
            self._show("")

    def _line(self, text: str) -> None:
        print(f"vitsearch-agent: {text}", file=self._stream)

    def _show(self, text: str) -> None:
        self._stream.write(f"\r\033[K{text}")
        self._stream.flush()


def options(texts: Sequence[str]) -> Dict[str, Any]:
    """Read KEY=VALUE, whose value may be JSON."""
    return dict(map(_option, texts))


def _option(text: str) -> Tuple[str, object]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidRequest(f"--option: expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
