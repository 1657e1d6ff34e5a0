"""Where the trials of a study lie among the plans of a space file, which may have had other choices when they ran."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from vitsearch.core.record import Record
from vitsearch.study.database.trial_forms import Parameters, comparable
from vitsearch.study.sampling import PlanSpace


class Places:
    """The parameters that lead to the plans of trials today. A knob with one choice is no parameter, so the parameters
    that a trial was asked with do not say which backbone it had, and lack what has got a second choice since.

    Args:
        plans: Those of the space file as it is now.
    """

    def __init__(self, plans: PlanSpace) -> None:
        self.plans = plans
        self._by_number: dict[int, Mapping[str, Any] | None] = {}
        self._tried: set[Parameters] = set()

    def of(self, number: int, record: Record) -> Mapping[str, Any] | None:
        """Find the parameters of an ended trial.

        Args:
            number: Of the trial.
            record: What came of it.

        Returns:
            The parameters; None where the file lacks one of its choices.
        """
        if number not in self._by_number:
            is_there = record.outcome != "off_space" and self.plans.covers(record.plan)
            parameters = self._by_number[number] = self.plans.parameters(record.plan) if is_there else None
            if parameters is not None:
                self._tried.add(comparable(parameters))
        return self._by_number[number]

    def tried(self, records: Mapping[int, Record]) -> Set[Parameters]:
        """Collect what was tried.

        Args:
            records: Those of all ended trials, by number; in later calls with more of them.

        Returns:
            The parameters of those that have a place, as keys.
        """
        for number in records.keys() - self._by_number.keys():
            self.of(number, records[number])
        return self._tried
