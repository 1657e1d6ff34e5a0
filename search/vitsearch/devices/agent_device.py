"""The driver's side of a device: one thread that talks to its agent, so tokens never leave the driver."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from vitsearch.core.metrics import NEEDS, split
from vitsearch.core.plan import Deployment
from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.errors import DeviceLost, ResourceError, StageError, VitsearchError
from vitsearch.space.sections import Device as SpaceDevice
from vitsearch_evaluators.client.client import DeviceClient, RequestOptions, Subset
from vitsearch_evaluators.errors import EnvironmentChanged, EvaluatorError, JobCancelled, MeasurementFailed
from vitsearch_evaluators.wire.protocol import AccuracyResult, DeviceInfo, Measurement, MeasureProtocol

GREETINGS = 5
GREETING_PAUSE_S = 0.5
DEADLINE_S = 900.0
FOR_EVER_S = math.inf
ENVIRONMENTS = 3
"""A device that changes its environment more often than this during one measurement is no use."""
ROUND, MOST_ROUNDS = 10_000, 40
DOES_NOT_FIT = ("out_of_memory", "incompatible_artifact")


@dataclass(frozen=True)
class Cores:
    """Which processors measure and which train; the same ones when there is only one."""

    device: tuple[int, ...]
    trainers: tuple[int, ...]

    @classmethod
    def shared(cls) -> Cores:
        """The last core of this process measures, the others train."""
        allowed = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )
        return cls((allowed[-1],), tuple(allowed[:-1]) or (allowed[-1],))


@dataclass(frozen=True)
class Outage:
    """Since when (``time.monotonic``) a device gives no useful answer, and what is in the way."""

    since_s: float
    why: str


class Device(Protocol):
    """Guarantees: one measurement at a time; a transient fault is waited for, and told by ``absence`` meanwhile.

    A run that has nothing else to do waits for ``deadline_s`` and no longer.
    """

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> DeviceInfo: ...

    @property
    def outage(self) -> Outage | None: ...

    @property
    def deadline_s(self) -> float: ...

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement: ...

    async def accuracy(self, artifact: Path, subset: Subset, deployment: Deployment) -> AccuracyResult: ...

    def close(self) -> None: ...


class AgentDevice:
    """A device behind an agent, for one study. How long to go on asking is what its client was told."""

    def __init__(self, name: str, client: DeviceClient, failures: int = 0, deadline_s: float = DEADLINE_S) -> None:
        """``failures``: earlier ones that may be tried again; measurements are numbered past theirs."""
        self.name = name
        self.deadline_s = deadline_s
        self.outage: Outage | None = None
        self._first = min(failures, MOST_ROUNDS) * ROUND
        self._client = client
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"device-{name}")
        self._stop = threading.Event()
        self.info: DeviceInfo = self._introduce()

    def _introduce(self) -> DeviceInfo:
        """An agent that was just started, or is being restarted, is asked again."""
        for attempt in range(1, GREETINGS + 1):
            try:
                return self._client.device()
            except EvaluatorError as error:
                if not error.transient or attempt == GREETINGS:
                    raise DeviceLost(f"device {self.name}: {error}") from error
                time.sleep(GREETING_PAUSE_S * attempt)
        raise AssertionError("unreachable")

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        """:class:`StageError` when the artifact itself fails; :class:`DeviceLost` when the agent is gone for good."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._measure, artifact, deployment, protocol, repeat)

    def _measure(self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int) -> Measurement:
        # A failed job is final for its id, and the repeat is part of that. What was killed from outside
        # did not fail: the agent takes it again by itself (vitsearch_evaluators.base.interruptions).
        ask = partial(
            self._client.measure,
            str(artifact),
            deployment.runtime,
            dict(deployment.options),
            protocol,
            self._first + repeat,
        )
        try:
            for _ in range(ENVIRONMENTS):
                try:
                    return ask(self._wish(self.info.environment_id))
                except EnvironmentChanged:
                    self._meet_again()
        except MeasurementFailed as error:
            raise StageError("measure", error.kind, str(error)) from error
        except JobCancelled as error:
            raise self._ended("measure", error) from error
        except EvaluatorError as error:
            raise DeviceLost(f"device {self.name}: {error}") from error
        finally:
            self.outage = None
        raise DeviceLost(f"device {self.name}: its environment changed {ENVIRONMENTS} times during one measurement")

    def _ended(self, stage: str, error: JobCancelled) -> BaseException:
        """What we gave up ourselves ends its task; what somebody cancelled (`vitsearch devices cancel`) has failed."""
        return asyncio.CancelledError() if self._stop.is_set() else StageError(stage, "cancelled", str(error))

    def _wish(self, environment_id: str | None = None) -> RequestOptions:
        return RequestOptions(environment_id, cancel=self._stop, on_trouble=self._note)

    def _note(self, trouble: EvaluatorError | None) -> None:
        """Called from the device's thread; who looks sees the old value or the new one."""
        if trouble is None:
            self.outage = None
        elif self.outage is None:
            self.outage = Outage(time.monotonic(), str(trouble))
        else:
            self.outage = replace(self.outage, why=str(trouble))

    def _meet_again(self) -> None:
        """After a reboot into another power mode, or an update: what follows is compared within the new environment."""
        now = self._client.await_device(self._wish())
        if now.device_id != self.info.device_id:
            raise DeviceLost(
                f"device {self.name}: another one answers at its address (it was {self.info.device_id}, now it is "
                f"{now.device_id}); numbers of two boards do not mix"
            )
        self.info = now

    async def accuracy(self, artifact: Path, subset: Subset, deployment: Deployment) -> AccuracyResult:
        """:class:`StageError` when the device cannot judge this artifact or none."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._accuracy, artifact, subset, deployment)

    def _accuracy(self, artifact: Path, subset: Subset, deployment: Deployment) -> AccuracyResult:
        options = dict(deployment.options)
        try:
            return self._client.accuracy(
                str(artifact), subset, deployment.runtime, options, repeat=self._first, request=self._wish()
            )
        except JobCancelled as error:
            raise self._ended("judge", error) from error
        except EvaluatorError as error:
            if error.transient:
                raise DeviceLost(f"device {self.name}: {error}") from error
            raise StageError("judge", error.code, str(error)) from error
        finally:
            self.outage = None

    def close(self) -> None:
        """Cancels what is being measured."""
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._client.close()


def refuse_unable(name: str, info: DeviceInfo, runtimes: Iterable[str], opset: int) -> None:
    """:class:`ResourceError` when a device cannot run what a study will send, before anything is trained for it."""
    there = {runtime.name: runtime for runtime in info.runtimes}
    for wanted in runtimes:
        if wanted not in there:
            raise ResourceError(f"device {name} has no {wanted}; it has {', '.join(sorted(there)) or 'no runtime'}")
        found = there[wanted]
        if not found.available:
            raise ResourceError(f"device {name}: {wanted} cannot be used there: {found.reason}")
        if "onnx" in found.artifacts and found.max_opset is not None and found.max_opset < opset:
            raise ResourceError(
                f"device {name}: models are exported with opset {opset}, "
                f"its {wanted} ({found.version}) reads up to {found.max_opset}"
            )


def refuse_unmetered(name: str, info: DeviceInfo, metrics: Iterable[str]) -> None:
    """:class:`ResourceError` when objectives or limits ask for power and the device has no meter that can be read."""
    metered = [metric for metric in metrics if split(metric)[0].name in NEEDS["power"]]
    if metered and info.power_meter is None:
        raise ResourceError(
            f"device {name} has no power meter that can be read, which {', '.join(metered)} needs: take it out of the "
            "objectives and limits; 'vitsearch-agent power' on the device says what is missing"
        )


def reached(name: str, asked: SpaceDevice, environ: Mapping[str, str]) -> KnownDevice:
    """How the device of a space file is reached; what the file leaves out is looked up by its name.

    What was stored for one address and certificate is never sent to another. :class:`ResourceError`,
    :class:`UnknownName`.
    """
    book = DeviceBook.of_user(environ)
    if asked.url is None:
        stored = book.get(name)
    else:
        found = book.devices().get(name)
        stored = found if found is not None and found.url == asked.url else KnownDevice(asked.url)
    token = stored.token if asked.token is None else token_from(asked.token, environ)
    if asked.token is None and token is not None and asked.fingerprint not in (None, stored.fingerprint):
        raise ResourceError(
            f"device {name}: the space file names another certificate ({asked.fingerprint}) than the one for which its "
            f"token is kept ({stored.fingerprint}); if it is the right one: vitsearch devices add {stored.url} {name} "
            f"--fingerprint {asked.fingerprint}"
        )
    return KnownDevice(stored.url, token, asked.fingerprint or stored.fingerprint)


def unreached(devices: Mapping[str, SpaceDevice], environ: Mapping[str, str]) -> list[str]:
    """Why a run from here would not know how to reach its devices; nobody is asked over the network."""
    told = []
    for name, asked in devices.items():
        try:
            reached(name, asked, environ)
        except VitsearchError as error:
            told.append(str(error))
    return told


def connect(name: str, way: KnownDevice, owner: str, deadline_s: float = DEADLINE_S) -> DeviceClient:
    """Nothing is sent yet; :class:`ResourceError` for a token or a fingerprint that is none."""
    try:
        return DeviceClient(way.url, token=way.token, owner=owner, fingerprint=way.fingerprint, deadline_s=deadline_s)
    except EvaluatorError as error:
        raise ResourceError(f"device {name}: {error}") from error


def token_from(reference: str, environ: Mapping[str, str]) -> str:
    """``env:NAME`` -> the variable's value; :class:`ResourceError` when it is not set."""
    name = reference.removeprefix("env:")
    if name not in environ:
        raise ResourceError(f"devices: the token is to be read from the environment variable {name}, which is not set")
    return environ[name]
