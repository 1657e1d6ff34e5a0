"""The plans that nobody has asked for yet, of a space that is small enough to list."""

from __future__ import annotations

import random
from collections.abc import Collection
from functools import cached_property

from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.study.plan_pool import PlanParameters


class UntriedPlans:
    """The plans of a space that have no trial. A space of more than `listed` plans always has some."""

    def __init__(self, parameters: PlanParameters, listed: int = POLICY.ending.listed_plans) -> None:
        self._parameters = parameters
        self._most = listed
        self._tried: set[Plan] = set()

    def draw(self, rng: random.Random, taken: Collection[Plan]) -> Plan | None:
        """A plan of a small space that is not among `taken`; None where there is none, or the space is larger."""
        left = [plan for plan in self._listed if plan not in taken]
        return rng.choice(left) if left else None

    def are_left(self, ended: Collection[Plan], running: Collection[Plan]) -> bool:
        """Whether the space has a plan that has neither ended nor runs. What has ended stays so."""
        if not self.is_listed:
            return True
        self._tried.update(plan for plan in self._listed if plan not in self._tried and plan in ended)
        return any(plan not in self._tried and plan not in running for plan in self._listed)

    @property
    def count(self) -> int:
        """The number of plans that are listed."""
        return len(self._listed)

    @cached_property
    def is_listed(self) -> bool:
        return self._parameters.plans.count() <= self._most

    @cached_property
    def _listed(self) -> tuple[Plan, ...]:
        if not self.is_listed:
            return ()
        return tuple(dict.fromkeys(map(self._parameters.plan, self._parameters.all())))
