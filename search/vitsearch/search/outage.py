"""While the device of a run is away: it is said wherever somebody looks, and what needs no device is made."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from vitsearch.core.plan import Plan
from vitsearch.core.progress import Progress
from vitsearch.devices.availability import duration, stored
from vitsearch.errors import VitsearchError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.storage.driver_id import DriverId
from vitsearch.study.study import Study

logger = logging.getLogger(__name__)

WATCH_S = 1.0


class Watch:
    """One per run, beside everything else."""

    def __init__(self, pipeline: Pipeline, study: Study, me: DriverId, progress: Progress) -> None:
        self._pipeline = pipeline
        self._study = study
        self._me = me
        self._progress = progress
        self._since_s: float | None = None
        self._ahead: asyncio.Task[None] | None = None
        self._begun: set[tuple[str, Plan]] = set()

    async def keep(self, unpruned: Iterable[Plan], asked: Callable[[], Iterable[Plan]]) -> None:
        """Until it is cancelled. ``unpruned`` is the leaderboard, ``asked`` gives the plans of the open trials."""
        try:
            while True:
                await asyncio.sleep(WATCH_S)
                self._tell()
                if self._since_s is not None and (self._ahead is None or self._ahead.done()):
                    self._ahead = asyncio.create_task(self._work_ahead(unpruned, asked()))
        finally:
            if self._since_s is not None:
                self._remember(None)
            if self._ahead is not None:
                self._ahead.cancel()
                await asyncio.gather(self._ahead, return_exceptions=True)

    def _tell(self) -> None:
        device = self._pipeline.device
        self._progress.waits(device.waits())
        outage = device.outage
        if outage is not None and self._since_s is None:
            self._since_s = outage.since_s
            self._remember(stored(device.name, outage, self._me))
        elif outage is None and self._since_s is not None:
            silent = duration(time.monotonic() - self._since_s)
            self._progress.note(f"device {device.name} answers again, after {silent}")
            self._since_s = None
            self._remember(None)

    def _remember(self, value: dict[str, Any] | None) -> None:
        """For ``vitsearch status``."""
        try:
            self._study.remember("waits", value)
        except Exception as error:  # noqa: BLE001 - whatever the database said, it is told on the screen too
            logger.warning("the database was not told whether the device answers: %s", error)

    async def _work_ahead(self, unpruned: Iterable[Plan], asked: Iterable[Plan]) -> None:
        """Bases and anatomies of the leaderboard, and the proxies of trials that wait for their screens."""
        for plan in unpruned:
            await self._make("base", plan, self._pipeline.prepare)
        for plan in asked:
            await self._make("proxy", plan, self._proxy)

    async def _make(self, what: str, plan: Plan, make: Callable[[Plan], Awaitable[object]]) -> None:
        if self._since_s is None or (what, plan) in self._begun:
            return
        self._begun.add((what, plan))
        with suppress(VitsearchError):  # whoever needs it meets it again
            await make(plan)

    async def _proxy(self, plan: Plan) -> object:
        return await self._pipeline.proxy(await self._pipeline.prepare(plan))
