"""Reports in the progress view and in the study that the device is unavailable, and works on what needs no device."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from vitsearch.core.activity import duration
from vitsearch.core.plan import Plan
from vitsearch.core.stage import Stage
from vitsearch.devices.availability import stored
from vitsearch.errors import VitsearchError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Progress
from vitsearch.search.watch.stall import StallWatch
from vitsearch.storage.driver_id import DriverId
from vitsearch.study.study import Study

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class OutageHandler:
    """Runs beside the search, one per run."""

    def __init__(
        self, pipeline: Pipeline, study: Study, driver: DriverId, progress: Progress, stall: StallWatch
    ) -> None:
        self._pipeline = pipeline
        self._study = study
        self._driver = driver
        self._progress = progress
        self._stall = stall
        self._since_s: float | None = None
        self._silent: str | None = None
        self._working_ahead: asyncio.Task[None] | None = None
        self._started: set[tuple[Stage, Plan]] = set()

    async def watch(self, unpruned: Iterable[Plan], plans_of_open_trials: Callable[[], Iterable[Plan]]) -> None:
        """Run until cancelled. `unpruned` is the leaderboard, `asked` gives the plans of the open trials."""
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                await self._report()
                if self._since_s is not None and (self._working_ahead is None or self._working_ahead.done()):
                    self._working_ahead = asyncio.create_task(self._work_ahead(unpruned, plans_of_open_trials()))
        finally:
            if self._since_s is not None:
                self._remember(None)
            if self._working_ahead is not None:
                self._working_ahead.cancel()
                await asyncio.gather(self._working_ahead, return_exceptions=True)

    async def _report(self) -> None:
        device = self._pipeline.device
        self._stall.report(device.waits() or await self._why_stalled())
        outage, name = device.outage, device.unavailable
        if name == self._silent:
            return
        if self._since_s is not None:
            silent = duration(time.monotonic() - self._since_s)
            self._progress.note(f"device {self._silent} answers again, after {silent}")
        self._silent, self._since_s = name, None if outage is None else outage.since_s
        self._remember(None if outage is None or name is None else stored(name, outage, self._driver))

    async def _why_stalled(self) -> str | None:
        try:
            return await self._stall.reason()
        except Exception as error:  # noqa: BLE001 - whatever the database or the device raised, the run continues
            logger.warning("the reason why no stage ends could not be found: %s", error)
            return None

    def _remember(self, value: dict[str, Any] | None) -> None:
        """For `vitsearch status`."""
        try:
            self._study.remember("waits", value)
        except Exception as error:  # noqa: BLE001 - whatever the database raised, the screen shows the outage too
            logger.warning("the study could not store whether the device answers: %s", error)

    async def _work_ahead(self, unpruned: Iterable[Plan], plans: Iterable[Plan]) -> None:
        """Bases and block structures of the leaderboard, and proxy scores of trials that wait to be screened."""
        for plan in unpruned:
            await self._run_stage(Stage.BASE, plan, self._pipeline.resolve)
        for plan in plans:
            await self._run_stage(Stage.PROXY, plan, self._proxy)

    async def _run_stage(self, stage: Stage, plan: Plan, make: Callable[[Plan], Awaitable[object]]) -> None:
        if self._since_s is None or (stage, plan) in self._started:
            return
        self._started.add((stage, plan))
        with suppress(VitsearchError):  # the trial that needs it raises it again
            await make(plan)

    async def _proxy(self, plan: Plan) -> object:
        return await self._pipeline.proxy(await self._pipeline.resolve(plan))
