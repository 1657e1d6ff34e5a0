"""The reference models, measured in child processes as the agent measures a model, without a server and a queue.

The agent writes both models itself, as ONNX or TFLite. A device without a runtime that reads one of these hashes
instead, which tries processes, clocks and meters, and no runtime.
"""

import contextlib
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from vitsearch_agent import __version__, artifacts, config
from vitsearch_agent.base import locks, plugins
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.environment import environment_id, fingerprint
from vitsearch_agent.config import NO_CONFIG, RUNTIME_DEFAULT, AgentConfig, RuntimeConfig
from vitsearch_agent.measure.child_checks import check_runtime
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import Isolation, JobFolder
from vitsearch_agent.measure.launch import Launch
from vitsearch_agent.measure.measure_job import PowerRecorder, measure_job
from vitsearch_agent.measure.peaks_job import measure_peaks
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.runtime_facts import FORMATS
from vitsearch_agent.wire.device_info import ANY_ARTIFACT, RuntimeInfo
from vitsearch_agent.wire.job_spec import BlobRef, JobSpec, job_id
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.results import PeaksResult

_DEVICE = "selftest"
_HASHED = {"hashed twice": {"hash_kib": 2048}, "hashed": {"hash_kib": 1024}}
"""What takes the place of the two models where no runtime reads them, with its options."""


class ReferenceModel(NamedTuple):
    """A model of the agent's own: its name, its file, and the options with which its runtime runs it."""

    name: str
    path: str
    options: Dict[str, Any]


class ReferenceRuns(NamedTuple):
    """Runs reference models in new folders below `folder`, on `system`, until `stop` is set.

    `state` is the folder of an agent, whose configuration names the programs of runtimes and the meter; None for none.
    """

    folder: str
    state: Optional[str]
    system: System
    stop: StopSignal
    parents: WarmParents
    references: ReferenceStore
    isolation: Isolation

    @property
    def config(self) -> AgentConfig:
        """The configuration of the agent."""
        return NO_CONFIG if self.state is None else config.load(self.state)

    def models(self, info: RuntimeInfo) -> List[ReferenceModel]:
        """Return the two reference models for a runtime, the larger one first."""
        if ANY_ARTIFACT in info.artifacts:
            path = os.path.join(self.folder, "blob.onnx")
            with open(path, "wb") as stream:
                stream.write(b"selftest")
            return [ReferenceModel(name, path, options) for name, options in _HASHED.items()]
        written = [form.references for kind, form in FORMATS.items() if kind in info.artifacts and form.references]
        write: Callable[[str], Sequence[str]] = plugins.loaded(written[0])
        return [ReferenceModel(os.path.basename(path).partition(".")[0], path, {}) for path in write(self.folder)]

    def check(self, runtime: str) -> RuntimeInfo:
        """Import a runtime in a process of its own."""
        return check_runtime(runtime, self.job_folder(runtime), self._programs(runtime))

    def measure(
        self,
        model: ReferenceModel,
        info: RuntimeInfo,
        protocol: MeasureProtocol,
        recorder: Optional[PowerRecorder] = None,
    ) -> Measurement:
        """Measure a model once more, in processes of its own.

        Raises:
            MeasurementFailed: The runtime cannot run the model.
        """
        ((name, path),) = artifacts.model_files(model.path).items()
        blob = BlobRef(name, file_digest(path), os.path.getsize(path))
        spec = JobSpec("measure", (blob,), info.name, model.options, protocol)
        with self._job(spec, info) as (context, job_folder):
            os.symlink(path, os.path.join(job_folder.folder, name))
            return measure_job(spec, context, job_folder, recorder, self.system, references=self.references)

    def peaks(self, info: RuntimeInfo, protocol: MeasureProtocol) -> PeaksResult:
        """Multiply matrices in each precision of a runtime, with one thread and with those of the protocol."""
        spec = JobSpec("peaks", (), info.name, {}, protocol)
        with self._job(spec, info) as (context, job_folder):
            return measure_peaks(spec, context, job_folder, self.system)

    def job_folder(self, name: str) -> JobFolder:
        """Return a new folder in which children run with the restrictions of measured models."""
        folder = os.path.join(self.folder, f"{len(os.listdir(self.folder))}-{name}")
        os.makedirs(folder)
        return JobFolder(folder, self.stop, isolation=self.isolation, parents=self.parents)

    @contextlib.contextmanager
    def _job(self, spec: JobSpec, info: RuntimeInfo) -> Iterator[Any]:
        environment = fingerprint(__version__, (info,), self.system)
        slowdown = None if environment["emulation"] is None else 1.0
        context = JobContext(job_id(spec, _DEVICE), _DEVICE, environment_id(environment), 1, 0.0, slowdown)
        job_folder = self.job_folder(spec.runtime)
        launch = Launch.of(info, os.path.join(self.folder, "cache")).allowing(self._programs(info.name))
        with locks.measuring_alone(locks.measuring_lock_path(), "the selftest", self.stop.is_set):
            yield context, job_folder._replace(launch=launch)

    def _programs(self, runtime: str) -> RuntimeConfig:
        return self.config.runtimes.get(runtime, RUNTIME_DEFAULT)
