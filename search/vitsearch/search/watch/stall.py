"""Says why a run makes no progress: what its stages wait for when none has ended for a while.

Costs nothing while stages end. After that, the processes of the workers are read every ten seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from vitsearch.core.activity import AWAITED_S, duration
from vitsearch.core.stage import Stage
from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.pipeline.context import StageContext
from vitsearch.search.watch.current_activity import Now
from vitsearch.workers.worker_usage import WorkerUsage, stopped, why_slow, worker_usage

QUIET_S = 60.0
"""A run in which no stage has ended for this time says what it waits for, if it finds something."""
LOOK_S = 10.0
SHOW_S = 1.0
LOOKS = 7
"""How many looks are kept: what is said of the workers is about the last minute."""
LATE_FACTOR = 3.0
"""A stage that takes this many times as long as the longest of its kind so far is said to be late."""
LATE_S = 120.0


class StallWatch:
    """One per run. `training` gives the numbers of the trials that are being trained, `awaited` what the run waits for
    when no stage is under way; nothing outside its search."""

    def __init__(
        self,
        context: StageContext,
        device: DeviceGroup,
        training: Callable[[], Sequence[int]] = tuple,
        usage: Callable[[], Mapping[int, WorkerUsage]] = worker_usage,
        awaited: Callable[[], str] = str,
    ) -> None:
        self._now = Now(context)
        self._clock = context.clock
        self._flight = context.single_flight
        self._device = device
        self._training = training
        self._run_awaits = awaited
        self._usage = usage
        self._looks: deque[tuple[float, Mapping[int, WorkerUsage]]] = deque(maxlen=LOOKS)
        self._reason: str | None = None

    async def reason(self) -> str | None:
        """One line; None while stages end, or when nothing is found. Call it every second."""
        return self._clock.awaited() or self._why_idle() or await self._why_quiet()

    def _why_idle(self) -> str | None:
        """What the run waits for, when no stage has been under way for as long as the slowest one took."""
        idle_s = self._clock.idle_s()
        if self._flight.waits or idle_s < max([QUIET_S, *self._clock.longest_s.values()]):
            return None
        awaited = self._run_awaits()
        return f"no stage was under way for {duration(idle_s)}: {awaited}" if awaited else None

    async def _why_quiet(self) -> str | None:
        quiet_s = self._clock.quiet_s(self._flight.waits)
        if quiet_s < LOOK_S:
            self._looks.clear()
            self._reason = None
        elif not self._looks or self._clock.now() - self._looks[-1][0] >= LOOK_S:
            self._looks.append((self._clock.now(), self._usage()))
            self._reason = await self._awaited() or (await self._find() if quiet_s >= QUIET_S else None)
        return self._reason

    async def show(self) -> None:
        """Show what the run does until cancelled; for the time before the search watches itself."""
        try:
            while True:
                await asyncio.sleep(SHOW_S)
                self.report(await self.reason())
        finally:
            self.report(None)

    def report(self, waits: str | None) -> None:
        """Show what the run does and what it waits for."""
        self._now.show(waits)

    async def _awaited(self) -> str | None:
        """What other runs or the device keep it waiting for."""
        if other := self._flight.waits_for:
            return f"waits for a result that another run makes (process {other.pid} on {other.host})"
        ages_s = self._clock.ages_s()
        if any(stage.needs_device and age_s >= AWAITED_S for stage, age_s in ages_s.items()):
            return await self._device.waits_in_queue()
        return None

    async def _find(self) -> str | None:
        ages_s = self._clock.ages_s()
        if slow := self._slow_workers(may_pause=any(stage.needs_device for stage in ages_s)):
            return f"{self._work(ages_s)} {slow}"
        return self._late(ages_s)

    def _slow_workers(self, may_pause: bool) -> str | None:
        """Compares the last look with the first that saw the same workers: Ray may have started them since. While
        something is measured (`may_pause`), the run itself may have stopped them."""
        last_s, now = self._looks[-1]
        seen = ((looked_s, before) for looked_s, before in self._looks if before.keys() & now.keys())
        first_s, before = next(seen, (last_s, now))
        return (None if may_pause else stopped(before, now)) or why_slow(before, now, last_s - first_s)

    def _work(self, ages_s: Mapping[Stage, float]) -> str:
        """What the workers do, in words: `training of trial 3`."""
        stages = [stage for stage in ages_s if not stage.needs_device]
        if stages == [Stage.TRAIN] and len(trials := self._training()) == 1:
            return f"{Stage.TRAIN.words} of trial {trials[0]}"
        return " and ".join(stage.words for stage in stages) or "the workers"

    def _late(self, ages_s: Mapping[Stage, float]) -> str | None:
        for stage, age_s in ages_s.items():
            longest_s = self._clock.longest_s.get(stage)
            if longest_s is not None and age_s >= max(LATE_S, LATE_FACTOR * longest_s):
                return f"{stage.words} takes {duration(age_s)}; the longest so far took {duration(longest_s)}"
        return None
