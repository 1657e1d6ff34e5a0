"""A device that is this machine: the workers of the run make room for it, or pause, while it measures.

While nothing is measured they use all cores. A screening measurement runs beside them, and they keep to the other
cores: its ratio to the reference models moves by less than its interval (`benchmarks/noise.py`, one busy neighbour).
For a confirmation, and for what cannot run the references, the workers stop, everything of that kind that waits for the
device is measured in one pause, and they continue. How often they pause is a matter of `seconds_to_wait`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from vitsearch.core.plan import Deployment
from vitsearch.core.targets import TARGETS
from vitsearch.devices.agent_device import Device
from vitsearch.devices.wrapped_device import WrappedDevice
from vitsearch_agent.wire.protocol import SCREEN, Measurement, MeasureProtocol

RUN_PER_PAUSE = 2.0
"""Busy workers run at least this many times as long as the pause before. They keep two thirds of the time, and what
becomes ready meanwhile is measured in one pause. Nothing is lost by waiting: a worker that runs out of work shortens
the wait, and without any the measurement starts at once."""
MAX_PAUSE_S = 60.0
"""No measurement joins a pause that has lasted so long; the one that is running ends first. A longer pause counts as
one of this length: a soak of ten minutes does not keep screening measurements waiting for twenty."""
LINGER_S = 0.1
"""A pause ends this long after its last measurement: a repeat of a disturbed one follows within milliseconds."""
LOOK_S = 0.25
"""Seconds between two looks at how many workers are busy."""
RENEW_S = 2.0
"""Seconds between two requests to stay paused; `workers.process_guard.LEASE_S` must be several times as long."""
R = TypeVar("R")


class PausableWorkers(Protocol):
    """The workers of a run on this machine.

    Guarantees: after `pause` no worker runs and no stage starts until `resume` or `make_room`. A pause whose
    request is not repeated ends after some seconds, and also when this process is killed. After `make_room` workers
    run, but on no core of the device, until `resume`.
    """

    @property
    def busy(self) -> float:
        """The share of the workers that have work, 0 to 1."""
        ...

    @property
    def can_make_room(self) -> bool:
        """Whether there are other cores than those of the device."""
        ...

    def pause(self) -> None: ...

    def make_room(self) -> None: ...

    def resume(self) -> None: ...


def seconds_to_wait(busy: float, ran_s: float, paused_s: float) -> float:
    """The time until workers may pause again; 0 when they may now.

    `busy` is the share of them that has work; they have run for `ran_s` since a pause of `paused_s`.
    """
    return max(0.0, RUN_PER_PAUSE * busy * min(paused_s, MAX_PAUSE_S) - ran_s)


def needs_quiet(deployment: Deployment, protocol: MeasureProtocol) -> bool:
    """Whether work beside a measurement would show in its result: it confirms, or it has no references."""
    is_screen = protocol.max_processes <= SCREEN.max_processes
    target = TARGETS.get(deployment.runtime)
    return not is_screen or target is None or deployment.provider not in target.paired


class PausingDevice(WrappedDevice):
    """The device of a run on the machine of its workers. Accuracy does not depend on time, so nothing pauses for it."""

    def __init__(self, device: Device, workers: PausableWorkers, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(device)
        self._workers = workers
        self._clock = clock
        self._turn = asyncio.Lock()
        self._wanted = 0
        self._need_room = 0
        self._has_room = False
        self._began_s: float | None = None
        self._ended_s = clock()
        self._last_pause_s = 0.0
        self._resumed_by_outage = False

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        if self._workers.can_make_room and not needs_quiet(deployment, protocol):
            return await self._measure_with_room(self._device.measure(artifact, deployment, protocol, repeat))
        self._wanted += 1
        try:
            async with self._turn:
                await self._begin()
                return await self._stay_paused(self._device.measure(artifact, deployment, protocol, repeat))
        finally:
            self._wanted -= 1
            if not self._wanted:
                asyncio.get_running_loop().call_later(LINGER_S, self._end_if_unwanted)

    async def _measure_with_room(self, request: Awaitable[R]) -> R:
        self._need_room += 1
        self._arrange()
        try:
            return await request
        finally:
            self._need_room -= 1
            asyncio.get_running_loop().call_later(LINGER_S, self._arrange)

    def _arrange(self) -> None:
        """Outside a pause: workers make room while something is measured beside them, and then use all cores again."""
        wants_room = self._need_room > 0
        if self._began_s is None and wants_room != self._has_room:
            self._let_run()

    def _let_run(self) -> None:
        self._has_room = self._need_room > 0
        if self._has_room:
            self._workers.make_room()
        else:
            self._workers.resume()

    def end_pause(self) -> None:
        """Let the workers continue. To be called before they are closed."""
        if self._began_s is not None:
            now_s, began_s = self._clock(), self._began_s
            self._began_s, self._ended_s, self._last_pause_s = None, now_s, now_s - began_s
            self._let_run()

    def close(self) -> None:
        self.end_pause()
        super().close()

    async def _begin(self) -> None:
        """Join the pause that lasts, or wait for the moment of the next one."""
        if self._began_s is not None and self._clock() - self._began_s > MAX_PAUSE_S:
            self.end_pause()
        if self._began_s is not None and self._resumed_by_outage:
            self._pause()
        while self._began_s is None:
            wait_s = seconds_to_wait(self._workers.busy, self._clock() - self._ended_s, self._last_pause_s)
            if wait_s > 0.0:
                await asyncio.sleep(min(wait_s, LOOK_S))
            else:
                self._began_s = self._clock()
                self._pause()

    def _pause(self) -> None:
        self._workers.pause()
        self._resumed_by_outage = False

    async def _stay_paused(self, request: Awaitable[R]) -> R:
        """Keep the workers paused while the device measures; they run while it is unavailable."""
        task = asyncio.ensure_future(request)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S if self._resumed_by_outage else RENEW_S))[0]:
                if self._device.outage is None:
                    self._pause()
                else:
                    self._workers.resume()
                    self._resumed_by_outage = True
            return task.result()
        finally:
            task.cancel()

    def _end_if_unwanted(self) -> None:
        if not self._wanted:
            self.end_pause()
