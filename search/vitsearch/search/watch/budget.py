"""What a search may spend: the wall time of one run, and the hours of trainers and devices in all runs together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from vitsearch.space.sections import Search
from vitsearch.storage.ledger.costs import StageCosts

LOOK_S = 5.0
"""The database is asked for what was spent this often."""


class Budget:
    """One per run; its wall time starts now. What other drivers of the study spend counts."""

    def __init__(
        self, search: Search, costs: StageCosts, study: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._search = search
        limits = {"trainers": search.trainer_budget_s, "devices": search.device_budget_s}
        self._limits = {who: seconds for who, seconds in limits.items() if seconds is not None}
        self._costs = costs
        self._study = study
        self._now = now
        self._started = self._next_look = now()
        self._reason: str | None = None

    def why_spent(self) -> str | None:
        """Which budget is spent, in words; None while something is left of each that the file gives."""
        wall = self._search.budget_s
        if wall is not None and self._now() - self._started > wall:
            return f"the budget of {wall:g} s is spent"
        if self._reason is None and self._limits and self._now() >= self._next_look:
            self._next_look = self._now() + LOOK_S
            self._reason = self._why_hours_are_spent()
        return self._reason

    def _why_hours_are_spent(self) -> str | None:
        worked = asdict(self._costs.worked(self._study))
        spent = (
            f"the {who} have worked {worked[who]:.0f} s, their budget is {limit:g} s"
            for who, limit in self._limits.items()
            if worked[who] > limit
        )
        return next(spent, None)
