"""How far a run is and how long it still takes, for its progress view; from what the study has stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from vitsearch.core.fleet import Member
from vitsearch.core.metrics import needs_confirmation
from vitsearch.core.pareto import loss, may_be_on
from vitsearch.core.record import Keys, Record, trainings
from vitsearch.devices.protocols import settled_by_screens
from vitsearch.pipeline.measure import final_confirmations, rounds_of
from vitsearch.pipeline.progress import TRAINED, Progress, on_front
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.study import Study
from vitsearch.study.time_left import TimeLeft, gaps, time_left
from vitsearch_agent.wire.measurement import PAIRED

ESTIMATE_S = 1.0
"""Between two estimates, at least."""
ESTIMATING = 0.005
"""The share of the time that estimating takes at most: it looks at all trials."""
CONFIRM_PER_SCREEN = 3.0
"""How much longer a confirmation takes than a screening measurement: 2.7 to 3.1 times in four recorded quickstarts."""
UNKNOWN = "time left: not known before the first training has ended"


class Remaining:
    """One per run. `slots` plans are trained at the same time."""

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        space: SearchSpace,
        slots: int,
        figures: CurrentFigures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._ledger = ledger
        self._space = space
        self._slots = slots
        self._figures = figures
        self._clock = clock
        metric_names = [*space.objectives, *space.limits]
        self._confirms = needs_confirmation(metric_names)
        self._settled_by_screens = settled_by_screens(metric_names, space.measure)
        self._started = self._since = clock()
        self._records: Mapping[int, Record] = study.records()
        self._estimate()

    def refresh(self, records: Mapping[int, Record]) -> None:
        """The search begins, or a plan was trained: the next estimate is from all trials that have ended. There is one
        a second at most, because it looks at all of them."""
        self._records, self._is_stale = records, True
        self._since = self._clock()

    def _estimate(self) -> None:
        records, self._is_stale = self._records, False
        began = self._clock()
        trained = set(trainings(records).values())
        self._gaps = gaps(self._study.spans(trained))
        self._trained = len(trained)
        self._to_be_shown = self._shown(records)
        self._measuring_s = self._measuring_seconds()
        self._to_remeasure = sum(not self._is_remeasured(*shown) for shown in self._to_be_shown)
        self._estimated = self._clock()
        self._pause_s = max(ESTIMATE_S, (self._estimated - began) / ESTIMATING)

    def _rounds(self, keys: Keys) -> int:
        """How often a graph was confirmed; by a fleet, on the device that did it least."""
        fleet = self._study.fleets.get(keys.device_id)
        own = Member(keys.device_id, self._study.attributes.get("protocol", ""))
        members = [own] if fleet is None else fleet.members.values()
        return min(
            rounds_of(self._ledger.repeats(keys.graph_key, member.device_id, member.protocol)) for member in members
        )

    def _is_remeasured(self, keys: Keys, confirmations: int) -> bool:
        if not self._settled_by_screens:
            return self._rounds(keys) >= (confirmations if self._confirms else 1)
        pooled = self._figures.pooled(keys)
        return pooled is not None and pooled.is_settled

    def _measuring_seconds(self) -> float:
        """What measuring one of the models that are shown again takes: a screening measurement if their times were
        taken beside references, else a confirmation. In many studies the first confirmation is made when the search has
        ended; until then screening measurements suggest what it takes."""
        measuring_seconds = self._ledger.costs.measuring_seconds
        screen_s = self._ledger.costs.screening_seconds() or 0.0
        if self._settled_by_screens and self._is_paired():
            return screen_s
        return measuring_seconds(self._study.attributes.get("protocol", "")) or CONFIRM_PER_SCREEN * screen_s

    def _is_paired(self) -> bool:
        pooled = (self._figures.pooled(keys) for keys, _ in self._to_be_shown)
        return any(measurement is not None and measurement.basis == PAIRED for measurement in pooled)

    def _shown(self, records: Mapping[int, Record]) -> list[tuple[Keys, int]]:
        """The keys of what the search would re-measure if it ended now, and how often each is confirmed in the end in a
        study that confirms every model: the front, what is near it, and the baseline."""
        baseline, objectives = self._study.attributes.get("baseline"), tuple(self._space.objectives)
        front = on_front(records, objectives)
        losses = [point for record in front.values() if (point := loss(objectives, record.metrics.values))]
        near = [
            record
            for number, record in records.items()
            if number not in front
            and record.is_confirmed
            and record.feasible
            and may_be_on(losses, record.metrics, objectives)
        ]
        shown = [*front.values(), *near]
        keys_of_shown = [(record.keys, final_confirmations(record)) for record in shown if record.keys is not None]
        return [*keys_of_shown, (Keys(**baseline["keys"]), final_confirmations(None))] if baseline else keys_of_shown

    def report_known(self, progress: Progress) -> None:
        """Show what earlier runs have found, before this run has done anything."""
        progress.counted(TRAINED, self._trained, self._space.search.wanted)
        progress.left(self.text())
        if records := self._study.records():
            progress.earlier_trials(records)

    def text(self) -> str:
        """The time left in words."""
        left = self._left()
        return UNKNOWN if left is None else f"{left} left"

    def final_text(self, models: int) -> str:
        """The time left when the search has ended and `models` are still to be re-measured."""
        seconds = models * self._measuring_seconds()
        return f"{TimeLeft(seconds, seconds)} left"

    def _left(self) -> TimeLeft | None:
        search = self._space.search
        now = self._clock()
        if self._is_stale and (self._trained == 0 or now - self._estimated >= self._pause_s):
            self._estimate()
        left = time_left(self._gaps, search.most_trainings - self._trained, self._slots, now - self._since)
        if left is not None and search.budget_s is not None:
            left = left.at_most(max(0.0, search.budget_s - (now - self._started)) + max(self._gaps, default=0.0))
        if left is None:
            return None
        may_converge = TimeLeft(0.0, left.high_s)  # at any time: when nothing more is expected to add anything
        return may_converge.plus(self._to_remeasure * self._measuring_s)
