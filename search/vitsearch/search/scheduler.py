"""Decides which plans are trained, from what the study knows so far.

Plans are trained in the order of greedy hypervolume on their predicted accuracy: of a round of
screened candidates, the one is chosen that would add most to the front. When candidates were ranked by
predicted accuracy alone, large models filled the rounds and the front reached half of the hypervolume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitsearch.core.figures import NO_METRICS, Metrics
from vitsearch.core.limits import Bound, constraints, screened
from vitsearch.core.pareto import Loss, dominates, gain, loss
from vitsearch.core.plan import Plan
from vitsearch.core.precisions import TRAINED
from vitsearch.core.record import Keys, ProxyScore, Record, RunningTrial, trainings
from vitsearch.pipeline.jobs import Evaluation
from vitsearch.search.accuracy_model import AccuracyModel, Observed
from vitsearch.search.cost_model import predict_costs

FINAL = frozenset({"confirmed", "infeasible", "failed"})
NO_GAIN = "no predicted gain"
OUTRANKED = "outranked by other candidates"
ENDED = "the search has ended"
ROUNDS_KEPT = 2
"""Rounds that a candidate may lose before it is dropped."""


@dataclass
class _Waiting:
    candidate: RunningTrial
    answer: asyncio.Future[str | None]
    rounds: int = 0


@dataclass(frozen=True)
class SchedulerSettings:
    """What does not change while a study runs. Hypervolume is measured from ``reference``; ``baseline`` are the
    metrics of the unpruned model; ``slots`` plans are trained at the same time."""

    objectives: tuple[str, ...]
    bounds: tuple[Bound, ...]
    reference: Loss
    margin: float
    candidates: int
    slots: int
    wanted: int
    baseline: Metrics = NO_METRICS


def never() -> bool:
    return False


def as_recorded(keys: Keys) -> Metrics:
    return NO_METRICS


def _identity(plan: Plan, keys: Keys) -> tuple[str, str, bool]:
    """Two trials with the same identity are one plan. Training for int8 changes no key of the trial."""
    return keys.weights_key, keys.graph_key, plan.deployment.precision in TRAINED


class TrialScheduler:
    """One per run; used from the driver's event loop only.

    While the device is unavailable nothing new is measured and nothing confirmed: a round is then
    what has come so far, and a trial that waits for its confirmation leaves its slot to the next.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        records: Mapping[int, Record],
        base_accuracy: Mapping[str, float],
        is_unavailable: Callable[[], bool] = never,
        device_metrics: Callable[[Keys], Metrics] = as_recorded,
    ) -> None:
        """``device_metrics`` is what is known of a graph now: more than when its record was written, if it was measured
        again or the reference times have moved."""
        self.settings = settings
        self._device_metrics = device_metrics
        self._is_unavailable = is_unavailable
        self.records: dict[int, Record] = dict(records)
        self.base_accuracy = base_accuracy
        self.closed = False
        self._trial_by_identity = {
            _identity(record.plan, record.keys): number
            for number, record in records.items()
            if record.keys and record.duplicate_of is None
        }
        self._waiting: list[_Waiting] = []
        self._training: dict[int, RunningTrial] = {}
        self._confirming: set[int] = set()

    # ---- duplicates

    def duplicate_of(self, number: int, plan: Plan, keys: Keys) -> Record | None:
        """The record of the trial that resolved to the same plan; None for the first of its kind.

        A plan that was put aside (dominated, not promoted) may be tried again: its stages are in the ledger.
        """
        identity = _identity(plan, keys)
        other = self._trial_by_identity.setdefault(identity, number)
        if other == number:
            return None
        known = self.records.get(other)
        if known is None:
            reason = f"trial {other} resolves to the same plan and is still running"
            return Record("duplicate", plan, reason, keys, duplicate_of=other)
        if known.outcome in FINAL:
            return replace(known, plan=plan, duplicate_of=other, reason=f"resolves to the same plan as trial {other}")
        self._trial_by_identity[identity] = number
        return None

    def forget_failures(self) -> list[Plan]:
        """Plans that failed and were not trained since; their failures no longer count as known."""
        failed = {number for number, record in self.records.items() if record.outcome == "failed"}
        plans = dict.fromkeys(self.records[number].plan for number in sorted(failed))
        self._trial_by_identity = {
            identity: number for identity, number in self._trial_by_identity.items() if number not in failed
        }
        trained = {record.plan for record in self.records.values() if record.is_confirmed}
        return [plan for plan in plans if plan not in trained]

    # ---- keeping count

    def add(self, number: int, record: Record) -> None:
        """A trial has ended: free its slot and choose the next candidate."""
        self.records[number] = record
        self.forget(number)
        self.choose()

    def forget(self, number: int) -> None:
        """Free the slot of a trial."""
        self._training.pop(number, None)
        self._confirming.discard(number)

    @property
    def trained(self) -> int:
        """The trainings that count towards ``search.trials``."""
        return len(trainings(self.records))

    @property
    def in_training(self) -> int:
        return len(self._training)

    @property
    def in_rungs(self) -> list[int]:
        """The trials in training that are not confirmed yet: a worker trains them, or is about to."""
        return sorted(self._training.keys() - self._confirming)

    @property
    def competing(self) -> int:
        """Candidates that wait to be chosen."""
        return len(self._waiting)

    @property
    def confirming(self) -> int:
        """Of those in training, the trials that need the device next."""
        return len(self._confirming)

    @property
    def losers_waiting(self) -> int:
        """Candidates that lost a round and compete in the next one too."""
        return sum(waiting.rounds > 0 for waiting in self._waiting)

    # ---- judging a screening measurement

    def interval_decides(self, trial: RunningTrial) -> bool:
        """Whether the trial would go on at one end of the intervals of its costs and not at the other.

        It is then worth measuring again, unless the device is unavailable: the trial then continues as if tied.
        """
        if self._is_unavailable():
            return False
        ends = [replace(trial, metrics=trial.metrics.at_end(better)) for better in (True, False)]
        lives = [self.judge_screen(one) is None and self._may_gain(one) for one in ends]
        return lives[0] != lives[1]

    def _may_gain(self, trial: RunningTrial) -> bool:
        return trial.accuracy is None or self._gain(trial) > 0.0

    def judge_screen(self, trial: RunningTrial) -> Record | None:
        """The record of a trial that is infeasible or dominated; None when it may continue.

        A trial that only the width of its intervals keeps from being as good as another is tied with it, and continues.
        """
        broken = self._screened_constraints(trial.metrics)
        if names := [name for name, value in broken.items() if value > 0]:
            return trial.to_record("infeasible", f"its screening measurement breaks {', '.join(names)}", broken)
        return self._dominated(trial, broken)

    def _dominated(self, trial: RunningTrial, broken: Mapping[str, float]) -> Record | None:
        cap = self._cap(trial.plan.backbone)
        best = loss(self.settings.objectives, trial.metrics.at_end(better=True).values | {"accuracy": cap})
        if best is None:
            return None
        for number, known in self._front_losses():
            if dominates(known, best):
                best_known = f"{cap:.4f} (best known accuracy + {self.settings.margin})"
                return trial.to_record(
                    "dominated", f"dominated by trial {number} even if it reached {best_known}", broken
                )
        return None

    def _screened_constraints(self, metrics: Metrics) -> dict[str, float]:
        return constraints(screened(self.settings.bounds), metrics.values)

    def _cap(self, backbone: str) -> float:
        """The best accuracy known for this backbone, trained or not, and a margin; never above 1."""
        seen = [self.base_accuracy.get(backbone, 1.0)]
        seen += [
            accuracy
            for record in self.records.values()
            if record.plan.backbone == backbone
            and record.is_confirmed
            and (accuracy := record.metrics.value("accuracy")) is not None
        ]
        return min(1.0, max(seen) + self.settings.margin)

    # ---- choosing the next plan to train

    def predict(self, trial: RunningTrial, base_accuracy: float, found: Evaluation) -> RunningTrial:
        """The trial with its proxy score and the accuracy that is predicted from it."""
        predicted = self._accuracy_model().accuracy(base_accuracy, found.kl)
        return replace(trial, proxy=ProxyScore(found.accuracy, found.kl, predicted), accuracy=predicted)

    def _accuracy_model(self) -> AccuracyModel:
        observed = []
        for record in self.records.values():
            base = self.base_accuracy.get(record.plan.backbone)
            accuracy = record.metrics.value("accuracy")
            if record.is_confirmed and record.proxy and accuracy is not None and base is not None:
                observed.append(Observed(record.proxy.kl, base - accuracy))
        return AccuracyModel.fit(observed)

    async def wait_for_slot(self, trial: RunningTrial) -> str | None:
        """Wait until a slot is free and a round is full; None when this trial is chosen, else the reason."""
        self._training.pop(trial.number, None)
        waiting = _Waiting(trial, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.choose()
        return await waiting.answer

    def mark_confirming(self, number: int) -> None:
        """All rungs of a trial are trained; it has yet to be exported and measured."""
        self._confirming.add(number)

    def choose(self) -> None:
        """Fill the free slots from the full rounds; called whenever something has changed."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if self.closed:
            self._drop(self._waiting, ENDED)
        while self._waiting and self._has_slot() and self._round_is_full():
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
            self._drop([w for w in self._waiting if w.rounds >= ROUNDS_KEPT], OUTRANKED)

    def _has_slot(self) -> bool:
        """Never trains more plans than are still wanted, however many slots there are."""
        busy = len(self._training) - (len(self._confirming) if self._is_unavailable() else 0)
        return busy < self.settings.slots and len(self._training) < self.settings.wanted - self.trained

    def _round_is_full(self) -> bool:
        needed = 1 if self._is_unavailable() else self.settings.candidates
        return sum(waiting.rounds == 0 for waiting in self._waiting) >= needed

    def _drop(self, losers: Sequence[_Waiting], reason: str) -> None:
        for waiting in list(losers):
            self._waiting.remove(waiting)
            waiting.answer.set_result(reason)

    def _gain(self, candidate: RunningTrial) -> float:
        """The hypervolume that a candidate is predicted to add to the front and to what is being trained."""
        point = self._predicted_loss(candidate)
        known = [known_point for _, known_point in self._front_losses()]
        coming = [loss_ for other in self._training.values() if (loss_ := self._predicted_loss(other)) is not None]
        return gain(point, [*known, *coming], self.settings.reference) if point is not None else 0.0

    def _predicted_loss(self, candidate: RunningTrial) -> Loss | None:
        if candidate.accuracy is None:
            return None
        accuracy = self._accuracy_model().upper(candidate.accuracy)
        confirmed = (record.metrics for record in self.records.values() if record.is_confirmed)
        costs = predict_costs(self.settings.objectives, candidate.metrics, [self.settings.baseline, *confirmed])
        return loss(self.settings.objectives, costs | {"accuracy": accuracy})

    def _front_losses(self) -> list[tuple[int, Loss]]:
        """Losses of all confirmed, feasible trials."""
        return [
            (number, point)
            for number, record in self.records.items()
            if record.is_confirmed
            and record.feasible
            and (point := loss(self.settings.objectives, self._metrics_now(record).values)) is not None
        ]

    def _metrics_now(self, record: Record) -> Metrics:
        return record.metrics if record.keys is None else record.metrics | self._device_metrics(record.keys)

    def expected_gain(self, number: int, record: Record) -> float:
        """What a trial that was put aside would add under today's limits, cap and front; 0 when still nothing."""
        if record.outcome not in ("infeasible", "dominated", "not_promoted") or record.keys is None:
            return 0.0
        accuracy = record.proxy.predicted_accuracy if record.proxy else self._cap(record.plan.backbone)
        trial = RunningTrial(number, record.plan, record.keys, record.metrics, record.proxy, accuracy=accuracy)
        return 0.0 if self.judge_screen(trial) else self._gain(trial)

    # ---- records

    def not_promoted(self, trial: RunningTrial, reason: str) -> Record:
        estimate = f"predicted accuracy {trial.accuracy:.4f}"
        if trial.rung:
            estimate = f"accuracy {trial.accuracy:.4f} at rung {trial.rung}"
        text = f"{reason}: {estimate}"
        if reason == NO_GAIN:
            text = f"not trained: {estimate} would not improve the front"
        return trial.to_record("not_promoted", text, self._screened_constraints(trial.metrics))

    def confirmed(self, trial: RunningTrial, keys: Keys, metrics: Metrics) -> Record:
        return Record(
            "confirmed",
            trial.plan,
            "",
            keys,
            metrics,
            constraints(self.settings.bounds, metrics.values),
            trial.proxy,
            trial.rung,
        )
