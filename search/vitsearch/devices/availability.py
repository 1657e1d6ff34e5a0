"""Waiting for a device that becomes unavailable during a run. Work that does not need the device continues.

Waiting ends when the device answers, or when its outage is longer than its deadline and the run has no other work. In
neither case does the plan count as failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vitsearch.core.activity import AWAITED_S, duration
from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import Device, DeviceOutputs, Outage
from vitsearch.devices.wrapped_device import WrappedDevice
from vitsearch.errors import DeviceLost
from vitsearch.storage.driver_id import DriverId
from vitsearch_agent.wire.protocol import Measurement, MeasureProtocol

OUTAGE_AFTER_S = 15.0
"""Silence that counts as an outage. The restart of an agent, or a short failure of the network, takes less time."""
POLL_S = 1.0
IDLE_POLLS = 5
"""Number of consecutive idle polls after which a run has no other work: two stages are less than a second apart."""
R = TypeVar("R")


class WaitingDevice(WrappedDevice):
    """The device of a run. A caller waits through an outage, and gets `DeviceLost` when waiting is useless.

    `others_work` says whether the run has work that does not need the device.
    """

    def __init__(
        self, device: Device, others_work: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(device)
        self._others_work = others_work
        self._clock = clock

    @property
    def outage(self) -> Outage | None:
        """The current outage; None when the device answers, or is silent for less than `OUTAGE_AFTER_S`."""
        outage = self._device.outage
        return outage if outage is not None and self._clock() - outage.since_s >= OUTAGE_AFTER_S else None

    @property
    def is_unavailable(self) -> bool:
        return self.outage is not None

    @property
    def unavailable(self) -> str | None:
        """The name of the device while it does not answer; None when it does."""
        return None if self.outage is None else self.name

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        return await self._wait_for(self._device.measure(artifact, deployment, protocol, repeat))

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        return await self._wait_for(self._device.outputs(artifact, images, deployment, reduction))

    def waits(self) -> str | None:
        """A message about what the run waits for; None when the device answers, or is silent for a moment."""
        outage = self._device.outage
        silent_s = 0.0 if outage is None else self._clock() - outage.since_s
        if outage is None or silent_s < min(AWAITED_S, OUTAGE_AFTER_S):
            return None
        return waiting(self.name, silent_s, outage.why)

    async def _wait_for(self, request: Awaitable[R]) -> R:
        task, idle = asyncio.ensure_future(request), 0
        try:
            while not (await asyncio.wait({task}, timeout=POLL_S))[0]:
                idle = 0 if self._others_work() else idle + 1
                if idle >= IDLE_POLLS:
                    self._give_up_at_deadline()
            return task.result()
        finally:
            task.cancel()

    def _give_up_at_deadline(self) -> None:
        outage = self._device.outage
        silent_s = 0.0 if outage is None else self._clock() - outage.since_s
        if outage is not None and silent_s >= self.deadline_s:
            why = f"{outage.why} (gave up after {silent_s:.0f} s without a useful answer)"
            raise DeviceLost(f"device {self.name}: {why}")


def waiting(name: str, silent_s: float, why: str) -> str:
    """The message about a run that waits."""
    return f"waits for device {name}, no answer for {duration(silent_s)}: {why}"


def stored(name: str, outage: Outage, driver: DriverId) -> dict[str, Any]:
    """What a study stores while a run waits; `since` is wall-clock time."""
    since = time.time() - (time.monotonic() - outage.since_s)
    return {"device": name, "since": since, "why": outage.why, "driver": driver.to_json()}


def still_waiting(remembered: Mapping[str, Any] | None) -> str | None:
    """The message for what `stored` wrote; None when no run waits, or the waiting run was killed."""
    if remembered is None or DriverId.from_json(remembered["driver"]).is_dead_here():
        return None
    return waiting(remembered["device"], max(0.0, time.time() - remembered["since"]), remembered["why"])
