"""The driver's side of a device: one thread that talks to its agent, so that tokens never leave the driver."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vitsearch.core.device_identity import DeviceIdentity
from vitsearch.core.metrics import NEEDS, split
from vitsearch.core.plan import Deployment
from vitsearch.core.stage import Stage
from vitsearch.devices.connection import DEADLINE_S
from vitsearch.errors import DeviceLost, ResourceError, StageError
from vitsearch.export.device_jobs import DeviceJob, device_job
from vitsearch_agent.client.client import DeviceClient, RequestOptions
from vitsearch_agent.errors import AgentError, EnvironmentChanged, JobCancelled, MeasurementFailed, NotFound
from vitsearch_agent.wire.protocol import DeviceInfo, Measurement, MeasureProtocol, OutputsResult

if TYPE_CHECKING:
    import numpy.typing as npt

CONNECT_ATTEMPTS = 5
CONNECT_PAUSE_S = 0.5
MAX_ENVIRONMENTS = 3
"""A device counts as lost when its environment changes this many times during one measurement."""
REPEATS_PER_FAILURE, MAX_FAILURES = 10_000, 40
MAX_EVICTED = 100
"""Earlier jobs whose outputs a device may have removed to get room. Each answers at once, as their results stay."""
DOES_NOT_FIT = ("out_of_memory", "incompatible_artifact")

T = TypeVar("T")


@dataclass(frozen=True)
class Outage:
    """A device gives no useful answer since `since_s` (`time.monotonic`), because of `why`."""

    since_s: float
    why: str


@dataclass(frozen=True)
class DeviceOutputs:
    """What a model gives on a device: `values` is the array that `result` describes, one row for each image."""

    result: OutputsResult
    values: npt.NDArray[Any]

    def of_device(self, device_id: str) -> DeviceOutputs:
        """The same under another id of the device."""
        return replace(self, result=self.result._replace(device_id=device_id))


class DeviceGroup(Protocol):
    """One device, or several of which each measures every model.

    Guarantees: a group measures `parallel` models at a time; it waits for the end of a transient fault, which
    `outage` describes in the meantime.
    """

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> DeviceInfo: ...

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices that measure a model; of one device, itself."""
        ...

    @property
    def parallel(self) -> int: ...

    @property
    def outage(self) -> Outage | None: ...

    async def waits_in_queue(self) -> str | None:
        """What the device does before it continues with the job of this run; None when it works on that job."""
        ...

    def close(self) -> None: ...


class Device(DeviceGroup, Protocol):
    """A device that measures models. A run that has no other work waits for it at most `deadline_s`."""

    @property
    def deadline_s(self) -> float: ...

    def adopt(self) -> None:
        """Its figures, also earlier ones, count for the study from now on."""

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement: ...

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs: ...


class AgentDevice:
    """A device behind an agent, for one study. Its client decides how long to repeat a request."""

    parallel = 1

    def __init__(self, name: str, client: DeviceClient, failures: int = 0, deadline_s: float = DEADLINE_S) -> None:
        """Connect to the agent. Raises `DeviceLost` when it does not answer.

        `failures` is the number of earlier failures that are retried; this run numbers its repeats after theirs.
        """
        self.name = name
        self.deadline_s = deadline_s
        self.outage: Outage | None = None
        self._first = min(failures, MAX_FAILURES) * REPEATS_PER_FAILURE
        self._client = client
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"device-{name}")
        self._stop = threading.Event()
        self.info: DeviceInfo = self._connect()

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self,)

    def adopt(self) -> None:
        pass

    def _connect(self) -> DeviceInfo:
        """Ask several times, because an agent may just be starting."""
        for attempt in range(1, CONNECT_ATTEMPTS + 1):
            try:
                return self._client.device()
            except AgentError as error:
                if not error.transient or attempt == CONNECT_ATTEMPTS:
                    raise DeviceLost(f"device {self.name}: {error}") from error
                time.sleep(CONNECT_PAUSE_S * attempt)
        raise AssertionError("unreachable")

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        """Measure an artifact.

        Raises `StageError` when the artifact fails, and `DeviceLost` when the agent stays unavailable.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._measure, artifact, deployment, protocol, repeat)

    def _measure(self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int) -> Measurement:
        # A failed job is final for its id, and the repeat is part of the id. A job that was killed from outside has
        # not failed: the agent runs it again (vitsearch_agent.base.interruptions).
        job = self._job(deployment)
        ask = partial(self._client.measure, str(artifact), job.runtime, job.options, protocol, self._first + repeat)
        try:
            return self._in_present_environment(ask)
        except MeasurementFailed as error:
            raise StageError("measure", error.kind, f"device {self.name}: {error}") from error
        except JobCancelled as error:
            raise self._cancelled("measure", error) from error
        except AgentError as error:
            raise DeviceLost(f"device {self.name}: {error}") from error
        finally:
            self.outage = None

    def _in_present_environment(self, ask: Callable[..., T]) -> T:
        """What `ask` answers, not that of an earlier environment: its runtime may have another version now."""
        for _ in range(MAX_ENVIRONMENTS):
            try:
                return ask(request=self._options(self.info.environment_id))
            except EnvironmentChanged:
                self._refresh_info()
        raise DeviceLost(f"device {self.name}: its environment changed {MAX_ENVIRONMENTS} times during one measurement")

    def _job(self, deployment: Deployment) -> DeviceJob:
        return device_job(deployment, [runtime.name for runtime in self.info.runtimes if runtime.available])

    def _cancelled(self, stage: str, error: JobCancelled) -> BaseException:
        """The error for a cancelled job: the task is cancelled if this run closes the device, otherwise the stage has
        failed because somebody cancelled the job (`vitsearch devices cancel`)."""
        if self._stop.is_set():
            return asyncio.CancelledError()
        return StageError(stage, "cancelled", f"device {self.name}: {error}")

    def _options(self, environment_id: str | None = None) -> RequestOptions:
        return RequestOptions(environment_id, cancel=self._stop, on_trouble=self._note_trouble)

    def _note_trouble(self, trouble: AgentError | None) -> None:
        """Called from the device's thread. A reader of `outage` sees the old value or the new one."""
        if trouble is None:
            self.outage = None
        elif self.outage is None:
            self.outage = Outage(time.monotonic(), str(trouble))
        else:
            self.outage = replace(self.outage, why=str(trouble))

    def _refresh_info(self) -> None:
        """Read the device's information again after a reboot into another power mode, or after an update. Later
        measurements belong to the new environment."""
        now = self._client.await_device(self._options())
        if now.device_id != self.info.device_id:
            raise DeviceLost(_another(self.name, DeviceIdentity.of(self.info), DeviceIdentity.of(now)))
        self.info = now

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        """Run an artifact on images on the device, and fetch what the reduction keeps of its outputs.

        Raises `StageError` when the device cannot do it, for this artifact or for any, and `DeviceLost`
        when the agent stays unavailable.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._outputs, artifact, images, deployment, reduction)

    def _outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        job = self._job(deployment)
        ask = partial(self._client.outputs, str(artifact), str(images), reduction, job.runtime, job.options)
        try:
            for repeat in range(self._first, self._first + MAX_EVICTED):
                result = self._in_present_environment(partial(ask, repeat=repeat))
                try:
                    return DeviceOutputs(result, self._fetched(result))
                except NotFound as error:
                    if error.details.get("reason") != "evicted":
                        raise
            raise StageError(Stage.DEVICE_ACCURACY, "evicted", f"device {self.name} has no room for the outputs")
        except JobCancelled as error:
            raise self._cancelled(Stage.DEVICE_ACCURACY, error) from error
        except AgentError as error:
            if error.transient:
                raise DeviceLost(f"device {self.name}: {error}") from error
            raise StageError(Stage.DEVICE_ACCURACY, error.code, f"device {self.name}: {error}") from error
        finally:
            self.outage = None

    def _fetched(self, result: OutputsResult) -> npt.NDArray[Any]:
        import numpy as np  # here, as the command line starts without it

        with TemporaryDirectory(prefix="vitsearch-outputs-") as folder:
            path = Path(folder) / "outputs.npy"
            self._client.fetch_outputs(result, str(path), self._options())
            values: npt.NDArray[Any] = np.load(path, allow_pickle=False)
            return values

    async def waits_in_queue(self) -> str | None:
        try:
            return await asyncio.to_thread(self._queue_text)
        except AgentError:  # `outage` describes what is wrong
            return None

    def _queue_text(self) -> str | None:
        jobs = self._client.jobs()
        ours = next((index for index, job in enumerate(jobs) if job.owner.study == self._client.owner.study), None)
        if ours is None:
            return None
        if ours > 0:
            before = f"{ours} job is" if ours == 1 else f"{ours} jobs are"
            return f"waits for device {self.name}: {before} before ours, the first of study {jobs[0].owner.study!r}"
        events = self._client.events(jobs[0].id)
        if events and events[-1].what == "cooling":
            limit = events[-1].details
            until = f"to {limit['until_c']:g} °C, for at most {limit['at_most_s']:g} s"
            return f"waits for device {self.name}: it cools down before it measures ({until})"
        return None

    def close(self) -> None:
        """Cancel the measurement that is running, and disconnect."""
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._client.close()


def refuse_unmetered(name: str, info: DeviceInfo, metrics: Iterable[str]) -> None:
    """Raise `ResourceError` when objectives or limits need a power meter and the device has none."""
    metered = [metric for metric in metrics if split(metric)[0].name in NEEDS["power"]]
    if metered and info.power_meter is None:
        raise ResourceError(
            f"device {name} has no usable power meter, but {', '.join(metered)} needs one: remove it from the "
            "objectives and limits, or run 'vitsearch-agent power' on the device to see what is missing"
        )


def _another(name: str, before: DeviceIdentity, now: DeviceIdentity) -> str:
    """Why a run does not go on with the device that answers now, and what a person can do."""
    differing = before.differences(now)
    seen = f"it differs by {' and '.join(differing)}" if differing else "its hardware is the same, as far as it says"
    ways = ["connect the one that measured, and the same command resumes"]
    if before.may_be_same(now):
        ways = [f"if it is the same device, run: vitsearch devices accept {name} STUDY; then the same command resumes"]
    ways.append(
        "to measure the models of the study on this one, run: vitsearch devices add URL NEW_NAME; vitsearch retarget "
        "STUDY --device NEW_NAME"
    )
    return "\n".join(
        [
            f"another device answers at the address of {name}, and measurements of two devices do not compare ({seen})",
            f"  measured on  {before.describe(name)}",
            f"  found now    {now.describe(name)}",
            *(f"  {way}" for way in ways),
        ]
    )
