"""Decides what a run does next: ask for plans, work off what is open, or end. One function of one frozen state.

A run ends because each step leads to an end: `SEARCH` has a reason to stop at last, `QUEUE` asks for each plan once,
`LAST_ROUND` and `CLOSE` start nothing. No candidate waits for a training that nobody will give it: when none is left,
`TrialScheduler.choose` drops all of them, and what holds a training is asked before all else.

A search has one end of its own: no plan that is not tried promises enough, and none that waits may add enough, even at
the upper end of its forecast. Each training that is made on the way there may show that there is more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from vitsearch.core.policy import EndingPolicy
from vitsearch.core.record import Record


class Step(Enum):
    """What a run does next."""

    SEARCH = "asks for new plans, and for those in the queue of the study"
    QUEUE = "asks for those in the queue alone: a complete search still deploys what it has trained"
    LAST_ROUND = "asks for nothing; candidates are trained while they may add enough"
    CLOSE = "asks for nothing; candidates are dropped"
    END = "has nothing open and nothing to ask for"


@dataclass(frozen=True)
class Streaks:
    """What has happened several times in a row."""

    low_gains: tuple[float, ...] = ()
    """What the sampler expected of proposals that add too little, as shares of the hypervolume."""
    without_gain: int = 0
    """Proposals that brought no improvement; failures do not count."""
    failures: int = 0
    """Trials that failed."""
    last_failure: str = ""

    def proposed(self, gain: float, least: float) -> Streaks:
        """These after a proposal of which the sampler expects so much."""
        return replace(self, low_gains=(*self.low_gains, gain) if gain < least else ())

    def told(self, record: Record, is_proposal: bool) -> Streaks:
        """These after a trial has ended."""
        if record.outcome == "failed" and record.duplicate_of is None:
            return replace(self, failures=self.failures + 1, last_failure=record.reason)
        if record.is_confirmed:
            low = () if record.rung else self.low_gains  # a training corrects what was expected of other plans
            return replace(self, low_gains=low, without_gain=0, failures=0)
        return replace(self, without_gain=self.without_gain + is_proposal, failures=0)


@dataclass(frozen=True)
class SearchState:
    """What is true of a search at one moment."""

    trained: int
    in_training: int
    """Trials of this run that train, or are confirmed after their training."""
    in_training_elsewhere: int
    candidates: int
    """Trials of this run that wait to be chosen for a training."""
    open: int
    """Trials of this run that have not ended, those in training and candidates too."""
    queued: int
    """Plans that wait in the queue of the study for a run of this file."""
    queued_in_training: int
    """Those of them that hold a training, because a run has left them in it."""
    are_all_tried: bool
    """Whether every plan of a small space has ended or is under way, here or elsewhere."""
    runs_elsewhere: bool
    budget_spent: str | None = None
    """Which budget is spent, in words."""
    converged_before: str | None = None
    """Why the same search has converged earlier."""
    streaks: Streaks = field(default=Streaks())


@dataclass(frozen=True)
class EndRules:
    """When a run ends. `wanted` trainings are those of the study, `listed` the plans of a small space, `least_gain` the
    share of the hypervolume that a plan must be expected to add."""

    wanted: int
    listed: int
    least_gain: float
    policy: EndingPolicy

    def next_step(self, state: SearchState) -> Step:
        """What a run does in a state."""
        if state.budget_spent is not None:
            return Step.CLOSE if state.open else Step.END
        if self.why_complete(state) or self.why_failing(state) or self._why_nothing_is_promised(state):
            if state.queued:
                return Step.QUEUE
            return Step.LAST_ROUND if state.open else Step.END
        if state.are_all_tried:
            are_screened = state.open == state.in_training + state.candidates
            return Step.LAST_ROUND if are_screened and state.candidates and not state.queued else Step.QUEUE
        return Step.QUEUE if self.all_trainings_given(state) else Step.SEARCH

    def all_trainings_given(self, state: SearchState) -> bool:
        """Whether as many plans as wanted are trained or in training."""
        return state.trained + state.in_training + state.in_training_elsewhere >= self.wanted

    def why_ended(self, state: SearchState) -> str:
        """Why a run ends, in words."""
        return state.budget_spent or self.why_complete(state) or self.why_failing(state) or ""

    def why_complete(self, state: SearchState) -> str | None:
        """Why the same search would bring no more; None while it may."""
        if state.trained >= self.wanted:
            return _trained(self.wanted)
        return self.why_converged(state) or state.converged_before

    def why_converged(self, state: SearchState) -> str | None:
        """Why a search with trainings left would bring no more, of what this run has seen; None while it may."""
        if not state.open and (reason := self._why_nothing_is_promised(state)):
            return f"{_trained(state.trained)}; {reason}: the front has converged"
        if state.are_all_tried and not state.open and not state.runs_elsewhere:
            return f"{_trained(state.trained)}; all {self.listed} plans of the space have been tried"
        return None

    def _why_nothing_is_promised(self, state: SearchState) -> str | None:
        """Why no plan that is not tried yet is likely to be worth its trial; None while one may."""
        policy, streaks = self.policy, state.streaks
        if len(streaks.low_gains) >= policy.low_proposals:
            most, least = max(0.0, *streaks.low_gains), self.least_gain
            return (
                f"the last {len(streaks.low_gains)} proposals were expected to add at most {most:.2%} to the "
                f"hypervolume, less than the {least:.2%} of search.least_gain, and no candidate may add that"
            )
        if streaks.without_gain >= policy.trials_without_gain:
            return f"{policy.trials_without_gain} trials in a row brought no improvement, and no candidate may"
        return None

    def why_failing(self, state: SearchState) -> str | None:
        """Why nothing more is asked although little is known of the space: plan after plan fails."""
        failures = state.streaks.failures
        if failures < self.policy.failures:
            return None
        return f"{failures} trials in a row failed; the last one: {state.streaks.last_failure}"


def awaited(state: SearchState) -> str:
    """What a run waits for in which nothing is under way, in words."""
    if state.in_training_elsewhere and state.candidates:
        return f"{state.candidates} candidates wait for a training; other runs of the study have those that are left"
    if state.runs_elsewhere:
        return "other runs of the study have not ended their trials"
    return f"{state.candidates} candidates, {state.queued} plans in the queue, {state.open} open trials"


def _trained(count: int) -> str:
    return "1 plan trained" if count == 1 else f"{count} plans trained"
