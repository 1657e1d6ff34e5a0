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
from vitsearch_agent.verify.bundle import Bundle, Manifest
from vitsearch_agent.verify.images import Chunk
from vitsearch_agent.wire.protocol import IMAGES_NAME, OUTPUTS, Measurement, MeasureProtocol
from vitsearch_agent.wire.restriction import Restriction

_PRIVATE = (
    ".aws", ".azure", ".config", ".docker", ".git-credentials", ".gnupg", ".kube", ".netrc", ".password-store",
    ".pgpass", ".ssh",
)  # fmt: skip
"""In the home folder. `.config` has the tokens of devices (`vitsearch devices`) and those of other programs."""


FIRST_S = 120.0
"""What a machine may take to load a model, whatever the model takes then."""
SLOWER = 100.0
"""How many times slower than the device that has measured a model another one may be: an emulated board is."""
UNKNOWN_MS = 1000.0
"""What a run takes where a bundle does not say it."""


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


def outputs_protocol(manifest: Manifest, chunk: Chunk) -> MeasureProtocol:
    """How the images of a chunk are run, with a time limit that follows from what a run took on the device of the
    bundle. That of `OUTPUTS` is for a model of which nothing is known."""
    shipped = manifest.figures.get("latency_ms_p50")
    ms = UNKNOWN_MS if shipped is None else shipped.value
    runs = -(-_count(chunk) // manifest.batch)
    limit_s = min(FIRST_S + SLOWER * runs * max(ms, 0.0) / 1000, OUTPUTS.timeout_s)
    return OUTPUTS._replace(threads=manifest.protocol.threads, batch=manifest.batch, timeout_s=float(round(limit_s)))


@contextlib.contextmanager
def in_time(chunk: Chunk, protocol: MeasureProtocol) -> Iterator[None]:
    """Say which limit a model has exceeded, and where it comes from."""
    try:
        yield
    except MeasurementFailed as failure:
        if failure.kind != "timeout":
            raise
        raise MeasurementFailed(
            "timeout",
            f"no outputs of {_count(chunk)} images after {protocol.timeout_s:g} s; allowed are {FIRST_S:g} s and "
            f"{SLOWER:g} times what they take by the figures of the bundle ({UNKNOWN_MS:g} ms a run where it has "
            f"none), at most {OUTPUTS.timeout_s:g} s",
            failure.details,
        ) from failure


def _count(chunk: Chunk) -> int:
    return int(chunk.rows.stop - chunk.rows.start)


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
        self._manifest = manifest
        self._listener = listener

    def outputs(self, chunk: Chunk) -> Any:
        import numpy

        files = dict(self._files, **{IMAGES_NAME: chunk.images})
        kept: List[bytes] = []

        def keep(path: str, _beside: FrozenSet[str]) -> str:
            kept.append(_read(path))
            return hashlib.sha256(kept[-1]).hexdigest()

        protocol = outputs_protocol(self._manifest, chunk)
        running = self._measuring._replace(protocol=protocol, reduction="none")
        with in_time(chunk, protocol), self._job("outputs", files, running) as job:
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
        protocol = outputs_protocol(manifest, chunk)
        with in_time(chunk, protocol):
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
