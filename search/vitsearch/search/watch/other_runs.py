"""Says who else runs the study: who joins while this run goes on, and whose run ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from vitsearch.pipeline.progress import Progress
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger, LiveRun

POLL_S = 5.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def announce_other_runs(ledger: Ledger, study: str, progress: Progress) -> AsyncIterator[None]:
    """While the block runs, say in a line who joins the search of `study` and whose run of it has ended. Those that
    go on already were said at the start."""
    saying = asyncio.create_task(_say(ledger, study, progress))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _say(ledger: Ledger, study: str, progress: Progress) -> None:
    previous: Mapping[str, LiveRun] | None = None
    while True:
        try:
            before, present = _other_searches(ledger, study)
        except Exception as error:  # noqa: BLE001 - whatever the database raised, who needs it reports the outage
            logger.debug("the other runs of the study are not known: %s", error)
        else:
            previous = before if previous is None else previous
            for token in present.keys() - previous.keys():
                progress.note(f"another run joined the study: {present[token].describe()}")
            for token in previous.keys() - present.keys():
                progress.note(f"the run {previous[token].describe()} has ended")
            previous = present
        await asyncio.sleep(POLL_S)


def _other_searches(ledger: Ledger, study: str) -> tuple[dict[str, LiveRun], dict[str, LiveRun]]:
    """The other runs that search a study now, by the token of their driver: those that began before this one, and
    all."""
    here = DriverId.current()
    runs = [run for run in ledger.inventory.live_runs(study) if run.purpose == "search"]
    own = [run.started_at for run in runs if run.driver.is_same_process(here)]
    others = {run.driver.token: run for run in runs if not run.driver.is_same_process(here)}
    began = max(own, default=0.0)
    return {token: run for token, run in others.items() if run.started_at <= began}, others
