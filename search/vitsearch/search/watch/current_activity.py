"""Shows what a run does and what it waits for: in its view and log, and in the database, for `vitsearch status`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from vitsearch.pipeline.context import StageContext
from vitsearch.storage.ledger import RunState

STORE_S = 5.0
"""What a run does is stored this often at most, and only what has changed."""

logger = logging.getLogger(__name__)


class Now:
    """One per run. `show` is called every second."""

    def __init__(self, context: StageContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._clock = clock
        self._stored, self._stored_at = RunState(), clock() - STORE_S

    def show(self, waits: str | None) -> None:
        """Show the stages that take long, and what the run waits for."""
        state, now = RunState(self._context.clock.long_stages(), waits), self._clock()
        self._context.progress.doing(state.doing)
        self._context.progress.waits(state.waits)
        if state == self._stored or now - self._stored_at < STORE_S:
            return
        self._stored_at = now
        try:
            self._context.ledger.costs.tell(state)
        except Exception as error:  # noqa: BLE001 - whatever the database raised, the view shows it too
            logger.warning("the study could not store what this run does: %s", error)
        else:
            self._stored = state
