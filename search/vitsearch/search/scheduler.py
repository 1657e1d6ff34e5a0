"""What the study knows so far, and the decisions that follow from it: judge a screen, choose whom to train.

Plans are trained in the order of greedy hypervolume on their foretold accuracy: of a round of
measured candidates the one that would add most to the front is chosen. Choosing by rank alone
filled up with large models and kept half of the hypervolume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vitsearch.core.limits import Bound, constraints, screened
from vitsearch.core.pareto import Loss, dominates, gain, loss
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, ProxyScore, Record, Values
from vitsearch.pipeline.pipeline import Measured
from vitsearch.search.accuracy_model import AccuracyModel, Observed
from vitsearch.search.cost_model import foretold

FINAL = frozenset({"confirmed", "infeasible", "failed"})
NO_GAIN = "it promised no gain"
ROUNDS_KEPT = 2
"""A candidate that was not chosen competes in this many rounds before it is let go."""


@dataclass(frozen=True)
class Candidate:
    """A measured plan that waits to be trained (further)."""

    number: int
    accuracy: float
    values: Values


@dataclass
class _Waiting:
    candidate: Candidate
    answer: asyncio.Future[str | None]
    rounds: int = 0


@dataclass(frozen=True)
class Rules:
    """What does not change while a study runs. ``reference`` is where hypervolume is measured from,
    ``baseline`` what the unpruned model was measured to cost."""

    objectives: tuple[str, ...]
    bounds: tuple[Bound, ...]
    reference: Loss
    margin: float
    candidates: int
    slots: int
    wanted: int
    baseline: Values = field(default_factory=dict)


def never() -> bool:
    return False


class TrialScheduler:
    """One per run; used from the driver's event loop only.

    While the device ``is_unavailable`` nothing new is measured and nothing confirmed: a round is then what has
    come so far, and who waits to be confirmed leaves the place to the next.
    """

    def __init__(
        self,
        rules: Rules,
        records: Mapping[int, Record],
        base_accuracy: Mapping[str, float],
        is_unavailable: Callable[[], bool] = never,
    ) -> None:
        self.rules = rules
        self._is_away = is_unavailable
        self.records: dict[int, Record] = dict(records)
        self.base_accuracy = base_accuracy
        self.closed = False
        self._numbers = {
            record.keys.identity: number
            for number, record in records.items()
            if record.keys and record.duplicate_of is None
        }
        self._waiting: list[_Waiting] = []
        self._training: dict[int, Candidate] = {}
        self._confirming: set[int] = set()

    # ---- duplicates

    def duplicate_of(self, number: int, plan: Plan, keys: Keys) -> Record | None:
        """Reported as the trial with the same effect; None for the first of its kind.

        What was put aside (hopeless, not promoted) may be tried again: its stages are in the ledger.
        """
        other = self._numbers.setdefault(keys.identity, number)
        if other == number:
            return None
        known = self.records.get(other)
        if known is None:
            return Record(
                "duplicate", plan, f"trial {other} with the same effect is under way", keys=keys, duplicate_of=other
            )
        if known.outcome in FINAL:
            return replace(known, plan=plan, duplicate_of=other, reason=f"same effect as trial {other}")
        self._numbers[keys.identity] = number
        return None

    def forget_failures(self) -> list[Plan]:
        """Plans that failed and did not come out well since; they are no longer known as failed."""
        failed = {number for number, record in self.records.items() if record.outcome == "failed"}
        plans = dict.fromkeys(self.records[number].plan for number in sorted(failed))
        self._numbers = {identity: number for identity, number in self._numbers.items() if number not in failed}
        well = {record.plan for record in self.records.values() if record.trained}
        return [plan for plan in plans if plan not in well]

    # ---- keeping the books

    def add(self, number: int, record: Record) -> None:
        """A trial has ended. Frees its place and lets the next candidate be chosen."""
        self.records[number] = record
        self.forget(number)
        self.choose()

    def forget(self, number: int) -> None:
        """A trial was stopped without a record (a clean stop or a transient fault)."""
        self._training.pop(number, None)
        self._confirming.discard(number)

    @property
    def trained(self) -> int:
        return sum(record.trained for record in self.records.values())

    @property
    def in_training(self) -> int:
        return len(self._training)

    @property
    def competing(self) -> int:
        """Candidates that wait to be chosen."""
        return len(self._waiting)

    @property
    def confirming(self) -> int:
        """Of those in training, who needs the device next."""
        return len(self._confirming)

    @property
    def losers_waiting(self) -> int:
        """Candidates that lost a round and compete in the next one too."""
        return sum(waiting.rounds > 0 for waiting in self._waiting)

    # ---- judging a screen

    def judge_screen(self, so_far: Record) -> Record | None:
        """``so_far`` completed as infeasible or hopeless, or None when it may go on."""
        broken = constraints(screened(self.rules.bounds), so_far.screen)
        if any(value > 0 for value in broken.values()):
            names = ", ".join(name for name, value in broken.items() if value > 0)
            return replace(so_far, outcome="infeasible", reason=f"the screen breaks {names}", constraints=broken)
        cap = self._cap(so_far.plan.backbone)
        best = loss(self.rules.objectives, {**so_far.screen, "accuracy": cap})
        if best is None:
            return None
        for number, known in self._front_losses():
            if dominates(known, best):
                best_known = f"the best accuracy known, {cap:.4f} (margin {self.rules.margin})"
                reason = f"trial {number} would be better even at {best_known}"
                return replace(so_far, outcome="dominated", reason=reason, constraints=broken)
        return None

    def _cap(self, backbone: str) -> float:
        """The best accuracy seen of this backbone, trained or not, and a margin; never above 1."""
        seen = [self.base_accuracy.get(backbone, 1.0)]
        seen += [
            accuracy
            for record in self.records.values()
            if record.plan.backbone == backbone
            and record.trained
            and (accuracy := record.values.get("accuracy")) is not None
        ]
        return min(1.0, max(seen) + self.rules.margin)

    # ---- choosing whom to train

    def predict_accuracy(self, base_accuracy: float, kl: float) -> float:
        return self._forecast().accuracy(base_accuracy, kl)

    def _forecast(self) -> AccuracyModel:
        observed = []
        for record in self.records.values():
            base = self.base_accuracy.get(record.plan.backbone)
            accuracy = record.values.get("accuracy")
            if record.trained and record.proxy and accuracy is not None and base is not None:
                observed.append(Observed(record.proxy.kl, base - accuracy))
        return AccuracyModel.fit(observed)

    async def wait_for_slot(self, candidate: Candidate) -> str | None:
        """Waits until a place is free and a round is full; None when this one is to be trained, else the reason."""
        self._training.pop(candidate.number, None)
        waiting = _Waiting(candidate, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.choose()
        return await waiting.answer

    def confirms(self, number: int) -> None:
        """All rungs of a trial are trained; what is left is to export and to measure it."""
        self._confirming.add(number)

    def choose(self) -> None:
        """Fill the free slots from the full rounds; called whenever something has changed."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if self.closed:
            self._drop(self._waiting, "the search has ended")
        while self._waiting and self._has_place() and self._round_is_full():
            best = max(self._waiting, key=lambda waiting: self._gain(waiting.candidate))
            if self._gain(best.candidate) <= 0.0:
                self._drop(self._waiting, NO_GAIN)
                return
            self._waiting.remove(best)
            self._training[best.candidate.number] = best.candidate
            best.answer.set_result(None)
            for waiting in self._waiting:
                waiting.rounds += 1
            self._drop([w for w in self._waiting if self._gain(w.candidate) <= 0.0], NO_GAIN)
            self._drop([w for w in self._waiting if w.rounds >= ROUNDS_KEPT], "others promised more")

    def _has_place(self) -> bool:
        """Also counts what is still wanted: two slots must not train one plan too many."""
        busy = len(self._training) - (len(self._confirming) if self._is_away() else 0)
        return busy < self.rules.slots and len(self._training) < self.rules.wanted - self.trained

    def _round_is_full(self) -> bool:
        needed = 1 if self._is_away() else self.rules.candidates
        return sum(waiting.rounds == 0 for waiting in self._waiting) >= needed

    def _drop(self, losers: Sequence[_Waiting], reason: str) -> None:
        for waiting in list(losers):
            self._waiting.remove(waiting)
            waiting.answer.set_result(reason)

    def _gain(self, candidate: Candidate) -> float:
        point = self._foreseen(candidate)
        known = [point_ for _, point_ in self._front_losses()]
        coming = [foreseen for c in self._training.values() if (foreseen := self._foreseen(c)) is not None]
        return gain(point, [*known, *coming], self.rules.reference) if point is not None else 0.0

    def _foreseen(self, candidate: Candidate) -> Loss | None:
        hoped = self._forecast().hoped(candidate.accuracy)
        confirmed = (record.values for record in self.records.values() if record.trained)
        costs = foretold(self.rules.objectives, candidate.values, [self.rules.baseline, *confirmed])
        return loss(self.rules.objectives, {**costs, "accuracy": hoped})

    def _front_losses(self) -> list[tuple[int, Loss]]:
        """Losses of all confirmed, feasible trials."""
        return [
            (number, point)
            for number, record in self.records.items()
            if record.trained and record.feasible and (point := loss(self.rules.objectives, record.values)) is not None
        ]

    def expected_gain(self, record: Record) -> float:
        """What a trial that was put aside would add under today's limits, cap and front; 0 when still nothing."""
        if record.outcome not in ("infeasible", "dominated", "not_promoted") or self.judge_screen(record):
            return 0.0
        accuracy = record.proxy.forecast if record.proxy else self._cap(record.plan.backbone)
        return self._gain(Candidate(-1, accuracy, record.screen))

    # ---- the last word on a trial

    def not_promoted(self, so_far: Record, proxy: ProxyScore, rung: int, why: str) -> Record:
        reason = f"{why}: foretold accuracy {proxy.forecast:.4f}"
        broken = constraints(screened(self.rules.bounds), so_far.screen)
        return replace(so_far, outcome="not_promoted", reason=reason, proxy=proxy, rung=rung, constraints=broken)

    def confirmed(self, so_far: Record, proxy: ProxyScore, rung: int, found: Measured) -> Record:
        return replace(
            so_far,
            outcome="confirmed",
            keys=found.keys,
            values=found.values,
            errors=found.errors,
            proxy=proxy,
            rung=rung,
            constraints=constraints(self.rules.bounds, found.values),
        )
