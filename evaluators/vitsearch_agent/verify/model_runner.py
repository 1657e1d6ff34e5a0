"""What runs the model of a bundle: this machine, or a device behind its agent."""

import abc
import contextlib
import hashlib
import os
import tempfile
from typing import Any, FrozenSet, Iterator, List, Mapping, NamedTuple, Tuple

from vitsearch_agent.base import processes
from vitsearch_agent.base.system import THIS_MACHINE, user_cache_folder
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.config import RUNTIME_DEFAULT, PowerConfig, RuntimeConfig
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child_checks import check_restrictions
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.job_folder import Isolation
from vitsearch_agent.measure.local_job import JobListener, LocalJob, Request, local_job
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.measure.outputs_job import measure_outputs
from vitsearch_agent.measure.power_phase import MeteredPhase
from vitsearch_agent.verify.bundle import Bundle
from vitsearch_agent.verify.images import Chunk
from vitsearch_agent.wire.protocol import IMAGES_NAME, OUTPUTS, Measurement
from vitsearch_agent.wire.restriction import Restriction

_PRIVATE = (
    ".aws", ".azure", ".config", ".docker", ".git-credentials", ".gnupg", ".kube", ".netrc", ".password-store",
    ".pgpass", ".ssh",
)  # fmt: skip
"""In the home folder. `.config` has the tokens of devices (`vitsearch devices`) and those of other programs."""


class Measured(NamedTuple):
    """A measurement with the environment in which it was taken."""

    measurement: Measurement
    environment: Mapping[str, Any]


class ModelRunner(abc.ABC):
    """Runs the model of one bundle."""

    restrictions: Tuple[Restriction, ...] = ()
    """What the model was kept from, where it has run."""

    @abc.abstractmethod
    def outputs(self, chunk: Chunk) -> Any:
        """Run the model on images; MeasurementFailed when it does not run here.

        Returns:
            Its outputs: float32 (n, ...).
        """

    @abc.abstractmethod
    def measure(self) -> Measured:
        """Measure by the protocol of the bundle; MeasurementFailed as `outputs`."""


class LocalRunner(ModelRunner):
    """Runs the model here, in child processes, without an agent."""

    def __init__(
        self,
        bundle: Bundle,
        programs: RuntimeConfig = RUNTIME_DEFAULT,
        listener: JobListener = JobListener(),  # noqa: B008 - immutable
    ) -> None:
        manifest = bundle.manifest
        self._files = bundle.model_files
        self._measuring = Request(manifest.runtime, manifest.options, manifest.protocol, programs)
        protocol = OUTPUTS._replace(threads=manifest.protocol.threads, batch=manifest.batch)
        self._running = self._measuring._replace(protocol=protocol, reduction="none")
        self._listener = listener

    def outputs(self, chunk: Chunk) -> Any:
        import numpy

        files = dict(self._files, **{IMAGES_NAME: chunk.images})
        kept: List[bytes] = []

        def keep(path: str, _beside: FrozenSet[str]) -> str:
            kept.append(_read(path))
            return hashlib.sha256(kept[-1]).hexdigest()

        with self._job("outputs", files, self._running) as job:
            result = measure_outputs(job.spec, job.context, job.folder, keep)
        return numpy.frombuffer(b"".join(kept), result.dtype).reshape(result.shape)

    def measure(self) -> Measured:
        meter = PowerConfig("auto" if self._measuring.protocol.power_s > 0 else "none")
        references = ReferenceStore(os.path.join(user_cache_folder(), "references.json"))
        with self._job("measure", self._files, self._measuring) as job:
            recorder = MeteredPhase(meter, THIS_MACHINE)
            measurement = measure_job(job.spec, job.context, job.folder, recorder, references=references)
            return Measured(measurement, job.environment)

    @contextlib.contextmanager
    def _job(self, kind: str, files: Mapping[str, str], request: Request) -> Iterator[LocalJob]:
        """Yield a job whose model is kept from what is private here, as an agent keeps it from its own files."""
        isolation = Isolation(_private_paths(), tuple(map(os.path.realpath, files.values())))
        try:
            with local_job(kind, files, request._replace(isolation=isolation), self._listener) as job:
                self.restrictions = self.restrictions or check_restrictions(job.folder._replace(on_start=None))
                yield job
        except OSError as error:
            if error.errno in processes.DISK_ERRNOS:
                raise
            raise MeasurementFailed("crash", f"the files of the job: {error}") from error


class DeviceRunner(ModelRunner):
    """Runs the model on a device behind its agent. `repeat` makes a further measurement of what was measured before."""

    def __init__(self, bundle: Bundle, client: DeviceClient, repeat: int) -> None:
        self._manifest = bundle.manifest
        self._path = bundle.path(bundle.manifest.model)
        self._client = client
        self._repeat = repeat

    def outputs(self, chunk: Chunk) -> Any:
        import numpy

        manifest = self._manifest
        protocol = OUTPUTS._replace(threads=manifest.protocol.threads, batch=manifest.batch)
        result = self._client.outputs(
            self._path, chunk.images, "none", manifest.runtime, manifest.options, protocol, self._repeat
        )
        self.restrictions = self._client.device().restrictions
        with tempfile.TemporaryDirectory(prefix="vitsearch-") as folder:
            path = os.path.join(folder, "outputs.npy")
            self._client.fetch_outputs(result, path)
            return numpy.load(path, allow_pickle=False)

    def measure(self) -> Measured:
        manifest = self._manifest
        measurement = self._client.measure(
            self._path, manifest.runtime, manifest.options, manifest.protocol, self._repeat
        )
        self._repeat += 1  # the agent answers the same request with the same result
        device = self._client.device()
        self.restrictions = device.restrictions
        return Measured(measurement, device.fingerprint)


def _private_paths() -> Tuple[str, ...]:
    """Where the keys and tokens of this user are, by their real paths."""
    home = os.path.realpath(os.path.expanduser("~"))
    config = os.environ.get("XDG_CONFIG_HOME", "")
    places = [os.path.join(home, name) for name in _PRIVATE] + [config] * os.path.isabs(config)
    paths = map(os.path.realpath, places)
    return tuple(path for path in dict.fromkeys(paths) if os.path.exists(path) and path not in (home, os.sep))


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
