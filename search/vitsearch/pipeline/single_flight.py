"""Makes each stage only once: looks it up, else makes it in one place while all others wait for it.

What is found counts only while the store holds its files. Inside one driver, whoever wants what is being made waits
for the same task. Between drivers a claim in the ledger says who makes it; a claim that is not renewed expires by
the database's clock, and another driver takes it over once it had time to be renewed after an outage. What crashed its
workers is not made again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vitsearch.core.stage import Stage, StageKey
from vitsearch.errors import WorkerCrashed
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import Store
from vitsearch.storage.ledger import Claim, Ledger, Row
from vitsearch.storage.sightings import Sightings
from vitsearch.storage.stage_cost import StageCost

CLAIM_S = 120.0
CLAIM_POLL_S = 2.0
R = TypeVar("R", bound=Row)

logger = logging.getLogger(__name__)


class SingleFlight:
    """One per driver. Claims carry the driver's identity."""

    def __init__(self, ledger: Ledger, store: Store, driver: DriverId) -> None:
        self._ledger = ledger
        self._store = store
        self._lost = False
        self.driver = driver
        self._token = json.dumps(driver.to_json(), sort_keys=True)
        self._making: dict[StageKey, asyncio.Task[Any]] = {}
        self._crashed: dict[StageKey, WorkerCrashed] = {}
        self._elsewhere: set[str] = set()
        self._expired: Sightings[tuple[str, float]] = Sightings()

    async def get(
        self, key: StageKey, find: Callable[[], R | None], make: Callable[[], Awaitable[tuple[R, StageCost]]]
    ) -> R:
        """What `find` finds, else what `make` makes, written to the ledger; one maker at a time per key.

        Once `make` has raised `WorkerCrashed`, so does every later call with this key.
        """
        row = find()
        if row is not None:
            if await self._is_whole(row):
                return row
            self._ledger.forget()
        return await self.make(key, find, make)

    async def make(
        self, key: StageKey, find: Callable[[], R | None], make: Callable[[], Awaitable[tuple[R, StageCost]]]
    ) -> R:
        """As `get`, for what was looked for just now and not found."""
        if key in self._crashed:
            raise self._crashed[key]
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.ensure_future(self._make(key, find, make))
            task.add_done_callback(lambda _: self._making.pop(key, None))
        result: R = await asyncio.shield(task)
        return result

    async def _make(
        self, key: StageKey, find: Callable[[], R | None], make: Callable[[], Awaitable[tuple[R, StageCost]]]
    ) -> R:
        try:
            return await self._make_alone(key, find, make)
        finally:
            self._elsewhere.discard(str(key))

    async def _make_alone(
        self, key: StageKey, find: Callable[[], R | None], make: Callable[[], Awaitable[tuple[R, StageCost]]]
    ) -> R:
        claim, is_released = self._claim(key), False
        while not self._ledger.claim(claim, CLAIM_S) and not self._take_over(claim):
            self._elsewhere.add(claim.key)
            await asyncio.sleep(CLAIM_POLL_S)
            if (stored := find()) is not None and await self._is_whole(stored):
                return stored
        self._elsewhere.discard(claim.key)
        try:
            if (stored := find()) is not None:  # another driver finished it between our look and our claim
                if await self._is_whole(stored):
                    return stored
                self._drop(stored)
            row, cost = await make()
            is_released = self._ledger.add(row, cost, claim)
            return row if is_released else find() or row  # our claim had expired, and another driver's result is there
        except WorkerCrashed as error:
            self._crashed[key] = error
            raise
        finally:
            if not is_released:
                self._ledger.release(claim)

    def _take_over(self, claim: Claim) -> bool:
        """Take a claim that its holder has left; False while it may be renewed."""
        return claim.key in self._abandoned() and self._ledger.take_over(claim, CLAIM_S)

    def _abandoned(self) -> set[str]:
        return {key for key, _ in self._expired.overdue(self._ledger.expired_claims().items())}

    def _claim(self, key: StageKey) -> Claim:
        return Claim(str(key), self._token)

    async def _is_whole(self, row: Row) -> bool:
        for sha256 in row.files:
            if not await self.holds(sha256):
                return False
        return True

    async def holds(self, sha256: str) -> bool:
        """Whether the store has a file. While it is read, or a server is away, heartbeats and pauses continue."""
        return await asyncio.to_thread(self._store.holds, sha256)

    def _drop(self, row: Row) -> None:
        if not self._lost:
            self._lost = True
            logger.warning("files in %s are gone or damaged: the stages that made them run again", self._store.address)
        self._ledger.drop(row)

    @property
    def running(self) -> frozenset[Stage]:
        """The stages of what is being made now."""
        return frozenset(key.stage for key in self._making)

    @property
    def waits(self) -> bool:
        """Whether another driver makes a result which this one waits for."""
        return bool(self._elsewhere)

    @property
    def waits_for(self) -> DriverId | None:
        """The other driver that makes a result which this one waits for; None when it waits for none."""
        if not self._elsewhere:
            return None
        holders = [token for claim, token in self._ledger.claims().items() if claim in self._elsewhere]
        return DriverId.from_json(json.loads(holders[0])) if holders else None

    def renew(self) -> None:
        """Called well within `CLAIM_S` while the run lasts. Whoever waits for a driver that has died here meanwhile
        goes on."""
        self.drop_dead()
        self._abandoned()  # notes what has run out
        for key in list(self._making):
            self._ledger.renew(self._claim(key), CLAIM_S)
        self._ledger.costs.record_heartbeat()

    def drop_dead(self) -> None:
        """Release the claims of drivers that died on this machine: they need not expire."""
        for claim, token in self._ledger.claims().items():
            if DriverId.from_json(json.loads(token)).is_dead_here():
                self._ledger.release(Claim(claim, token))

    async def stop(self) -> None:
        """End what is being made and release its claims."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
