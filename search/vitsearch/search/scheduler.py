"""Decides which plans are trained: of all screened candidates, the one that is expected to add most to the front.

Plans are taken in the order of greedy hypervolume on their predicted accuracy. When candidates were ranked by predicted
accuracy alone, large models filled the rounds and the front reached half of the hypervolume. A candidate that is not
chosen stays one for as long as it may add anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY, SearchPolicy
from vitsearch.core.precisions import TRAINED
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.search import acquisition
from vitsearch.search.acquisition import ExpectedFront, Prospect
from vitsearch.search.posterior import Posterior
from vitsearch.search.verdicts import NO_GAIN, judge_screen

FINAL = frozenset({"confirmed", "failed"})
ENDED = "the search has ended"


@dataclass
class _Waiting:
    candidate: RunningTrial
    answer: asyncio.Future[str | None]
    lost_round: bool = False


@dataclass(frozen=True)
class Rules:
    """`slots` plans are trained at the same time, `wanted` in all; each is chosen from a round of `candidates`
    new ones and all that were not chosen before."""

    candidates: int
    slots: int
    wanted: int
    policy: SearchPolicy = POLICY


def never() -> bool:
    return False


class Trainings(Protocol):
    """The trainings that all drivers of a study have together."""

    def claim(self, trial: RunningTrial) -> bool:
        """Whether the trial may be trained."""
        ...

    def holds(self, trial: RunningTrial) -> bool:
        """Whether the trial was given one before, by a driver that was killed or stopped while it trained it."""
        ...


class OwnTrainings:
    """Those of a study with one driver, which counts them itself."""

    def claim(self, trial: RunningTrial) -> bool:
        return True

    def holds(self, trial: RunningTrial) -> bool:
        return False


OWN = OwnTrainings()


class Scheduler(Protocol):
    """Decides how far a plan goes: `TrialScheduler` in a run, Ray Tune elsewhere (`tune/rungs.py`)."""

    posterior: Posterior
    skips_trained: bool
    """Whether a plan whose weights are trained already is confirmed without going through its rungs."""

    @property
    def least_gain(self) -> float:
        """The share of the hypervolume of the front that a plan must be expected to add."""
        ...

    def duplicate_of(self, number: int, plan: Plan, keys: Keys) -> Record | None:
        """The record of the trial that resolved to the same plan; None for a plan that is made."""
        ...

    def judge_screen(self, trial: RunningTrial) -> Record | None:
        """The record of a trial that ends with its screening measurement; None when it continues."""
        ...

    def interval_decides(self, trial: RunningTrial) -> bool:
        """Whether a trial would continue at one end of the intervals of its costs and not at the other."""
        ...

    async def promote(self, trial: RunningTrial) -> str | None:
        """Wait until a trial may go on, to its next rung or from its last one to its confirmation: None then, else why
        it ends."""
        ...

    def mark_confirming(self, number: int) -> None:
        """The trial is exported: only the device works on it."""
        ...

    def expected_front(self) -> ExpectedFront:
        """The front that a plan is compared with."""
        ...


def equal_price(trial: RunningTrial) -> float:
    return 1.0


def _identity(plan: Plan, keys: Keys) -> tuple[str, str, bool]:
    """Two trials with the same identity are one plan. Training for int8 changes no key of the trial."""
    return keys.weights_key, keys.graph_key, plan.deployment.precision in TRAINED


class TrialScheduler:
    """One per run; used from the driver's event loop only.

    `closed`: whoever waits is dropped. `is_last_round`: nobody else comes, so a round is who waits by now.

    Trainings never wait for a device. A trial that is measured for its confirmation leaves its slot to the next; while
    the device is unavailable nothing new is measured, and a round is then what has come so far.
    """

    skips_trained = True

    def __init__(
        self,
        rules: Rules,
        posterior: Posterior,
        is_unavailable: Callable[[], bool] = never,
        price: Callable[[RunningTrial], float] = equal_price,
        trainings: Trainings = OWN,
    ) -> None:
        """`price` is what a training costs: with a budget of time its seconds, otherwise 1."""
        self.rules = rules
        self.posterior = posterior
        self.closed = False
        self.is_last_round = False
        self._is_unavailable = is_unavailable
        self._price = price
        self._trainings = trainings
        self._trial_by_identity = {
            _identity(record.plan, record.keys): number
            for number, record in posterior.records.items()
            if record.keys and record.duplicate_of is None
        }
        self._waiting: list[_Waiting] = []
        self._training: dict[int, RunningTrial] = {}
        self._confirming: set[int] = set()

    @property
    def least_gain(self) -> float:
        """The share of the hypervolume that a plan has to be expected to add to be trained."""
        return self.rules.policy.training.least_gain

    # ---- duplicates

    def duplicate_of(self, number: int, plan: Plan, keys: Keys) -> Record | None:
        """The record of the trial that resolved to the same plan; None for the first of its kind.

        A plan that was put aside (dominated, not promoted, infeasible by limits that were changed) may be tried again:
        its stages are in the ledger.
        """
        identity = _identity(plan, keys)
        other = self._trial_by_identity.setdefault(identity, number)
        if other == number:
            return None
        record = self.posterior.records.get(other)
        if record is None:
            reason = f"trial {other} resolves to the same plan and is still running"
            return Record("duplicate", plan, reason, keys, duplicate_of=other)
        if self._is_final(record):
            return replace(record, plan=plan, duplicate_of=other, reason=f"resolves to the same plan as trial {other}")
        self._trial_by_identity[identity] = number
        return None

    def _is_final(self, record: Record) -> bool:
        """Whether the same plan would end in the same way: an infeasible one only while it breaks a limit."""
        if record.outcome != "infeasible":
            return record.outcome in FINAL
        broken = self.posterior.goals.screened_constraints(self.posterior.metrics_now(record))
        return any(value > 0.0 for value in broken.values())

    def forget_failures(self) -> list[Plan]:
        """Plans that failed and were not trained since; their failures no longer count as known."""
        records = self.posterior.records
        failed = {number for number, record in records.items() if record.outcome == "failed"}
        plans = dict.fromkeys(records[number].plan for number in sorted(failed))
        self._forget_identities(failed)
        trained = {record.plan for record in records.values() if record.is_confirmed}
        return [plan for plan in plans if plan not in trained]

    def _forget_identities(self, numbers: Container[int]) -> None:
        identities = self._trial_by_identity.items()
        self._trial_by_identity = {identity: number for identity, number in identities if number not in numbers}

    # ---- keeping count

    def add(self, number: int, record: Record) -> None:
        """A trial has ended, here or at another driver: free its slot and choose the next candidate."""
        self.posterior.add(number, record)
        if record.keys is not None and record.duplicate_of is None:
            self._trial_by_identity.setdefault(_identity(record.plan, record.keys), number)
        self.forget(number)
        self.choose()

    def lose(self, number: int) -> None:
        """A trial is not ours any more: free its slot, and take its plan as a new one where it is asked for again."""
        self._forget_identities({number})
        self.forget(number)

    def forget(self, number: int) -> None:
        """Free the slot of a trial."""
        self._training.pop(number, None)
        self._confirming.discard(number)

    @property
    def trained(self) -> int:
        """The trainings that count towards `search.trials`."""
        return len(self.posterior.trained)

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
        """Of those in training, the trials that only wait for the device."""
        return len(self._confirming)

    @property
    def losers_waiting(self) -> int:
        """Candidates that lost a round and compete in the next one too."""
        return sum(waiting.lost_round for waiting in self._waiting)

    # ---- choosing the next plan to train

    def judge_screen(self, trial: RunningTrial) -> Record | None:
        """The record of a trial that is infeasible or dominated; None when it may continue."""
        return judge_screen(self.posterior, trial)

    def interval_decides(self, trial: RunningTrial) -> bool:
        """Whether the trial would go on at one end of the intervals of its costs and not at the other.

        It is then worth measuring again, unless the device is unavailable: the trial then continues as if tied.
        """
        if self._is_unavailable():
            return False
        front = self.expected_front()
        return trial.interval_decides(lambda end: self.judge_screen(end) is None and self.may_gain(end, front))

    def may_gain(self, trial: RunningTrial, front: ExpectedFront | None = None) -> bool:
        """Whether a trial is expected to add enough; one of which nothing is predicted yet may."""
        front = front or self.expected_front()
        return (
            not trial.qualities
            or acquisition.expected_gain(self.posterior, trial, front) > self.least_gain * front.hypervolume
        )

    async def promote(self, trial: RunningTrial) -> str | None:
        """A trial in training goes on while it may add enough, to the end of its last rung; what needs no training is
        confirmed if it may; all others compete for a slot."""
        is_trained = trial.rung == trial.plan.recipe.rungs[-1]
        if trial.number in self._training:
            return None if is_trained else self.why_stop(trial)
        if is_trained:
            return None if self.may_gain(trial) else NO_GAIN
        if trial.needs_no_training:  # to judge its file is cheap, and all that is left open
            return None if self._is_worth(trial, self.expected_front()) else NO_GAIN
        return await self.wait_for_slot(trial)

    async def wait_for_slot(self, trial: RunningTrial) -> str | None:
        """Wait until a slot is free and a round is full; None when this trial is chosen, else the reason."""
        waiting = _Waiting(trial, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.choose()
        return await waiting.answer

    def why_stop(self, trial: RunningTrial) -> str | None:
        """Why a trial in training is not trained further; None when it is: it may still add enough beside what was
        found since it was chosen. It does not compete again. Against new candidates, whose accuracy may be anything,
        most trainings were left half done, and a study ended lower (`benchmarks/ladders.py`)."""
        if self.closed:
            return ENDED
        others = [other for other in self._running() if other.number != trial.number]
        front = acquisition.expected_front(self.posterior, others)
        return None if self._is_worth(trial, front) else NO_GAIN

    def _is_worth(self, trial: RunningTrial, front: ExpectedFront) -> bool:
        [prospect] = acquisition.prospects(self.posterior, [trial], front)
        return prospect.is_worth(self.least_gain * front.hypervolume)

    def mark_confirming(self, number: int) -> None:
        """A trial is trained and exported: it leaves its slot, and only the device works on it."""
        if number in self._training:
            self._confirming.add(number)

    def choose(self) -> None:
        """Fill the free slots from the full rounds; called whenever something has changed."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if self.closed or self.trained >= self.rules.wanted:
            self._drop(self._waiting, ENDED)
        while self._waiting and self._has_slot() and self._round_is_full():
            best = self._best_of_round()
            if best is not None and not self._trainings.claim(best.candidate):
                best = self._left_in_training()
            if best is None:
                return
            self._waiting.remove(best)
            self._training[best.candidate.number] = best.candidate
            best.answer.set_result(None)
            self._weigh()  # beside the one that was chosen, others may add nothing any more

    def _left_in_training(self) -> _Waiting | None:
        """When all trainings are given away: one that a driver has left, which nobody else can go on with."""
        left = (waiting for waiting in self._waiting if self._trainings.holds(waiting.candidate))
        return next((waiting for waiting in left if self._trainings.claim(waiting.candidate)), None)

    def _best_of_round(self) -> _Waiting | None:
        """The candidate that is trained next; None when none is worth it."""
        for waiting in self._waiting:
            waiting.lost_round = True
        weighed, least = self._weigh()
        best = acquisition.most_promising(weighed, least, self._price)
        if best is None and self.is_last_round:
            best = acquisition.worth_testing(weighed, least, self._price)
        if best is not None:
            return self._waiting[best]
        if self.is_last_round:
            self._drop(self._waiting, NO_GAIN)
        return None

    def _weigh(self) -> tuple[list[Prospect], float]:
        """What each candidate may add, without those that add too little even at their best: they are dropped. And the
        least that is worth a training."""
        front = self.expected_front()
        weighed = acquisition.prospects(self.posterior, [waiting.candidate for waiting in self._waiting], front)
        least = self.least_gain * front.hypervolume
        for waiting, prospect in zip(self._waiting, weighed, strict=True):
            waiting.candidate = prospect.trial
        pairs = zip(self._waiting, weighed, strict=True)
        self._drop([waiting for waiting, prospect in pairs if not prospect.is_worth(least)], NO_GAIN)
        return [prospect for prospect in weighed if prospect.is_worth(least)], least

    def _running(self) -> list[RunningTrial]:
        """The trials in training, with what is predicted of them by now."""
        return [self.posterior.forecast(trial) for trial in self._training.values()]

    def expected_front(self) -> ExpectedFront:
        """The front that a candidate is compared with: what is confirmed, and what is being trained."""
        return acquisition.expected_front(self.posterior, self._running())

    def _has_slot(self) -> bool:
        """Never trains more plans than are still wanted, however many slots there are."""
        return len(self._training) - len(self._confirming) < self.rules.slots and self._wants_more

    @property
    def _wants_more(self) -> bool:
        return len(self._training) < self.rules.wanted - self.trained

    def _round_is_full(self) -> bool:
        if self.is_last_round:
            return True
        needed = 1 if self._is_unavailable() else self.rules.candidates
        return sum(not waiting.lost_round for waiting in self._waiting) >= needed

    def _drop(self, losers: Sequence[_Waiting], reason: str) -> None:
        for waiting in list(losers):
            self._waiting.remove(waiting)
            waiting.answer.set_result(reason)
