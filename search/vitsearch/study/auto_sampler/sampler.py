"""The sampler: what Optuna calls."""

from __future__ import annotations

import copy
import logging
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from vitsearch.blas import one_blas_thread
from vitsearch.study.auto_sampler.axes import value_at
from vitsearch.study.auto_sampler.candidates import (
    Candidates,
    DrawnPlans,
    Features,
    Plan,
    PlanPool,
    Pool,
    Prior,
    first_plans,
)
from vitsearch.study.auto_sampler.encoding import Floats, Points, key_of
from vitsearch.study.auto_sampler.improvement import pareto
from vitsearch.study.auto_sampler.observations import (
    Judge,
    ObjectiveSpec,
    Observations,
    check_length,
    observe,
    of_complete,
)
from vitsearch.study.auto_sampler.proposal import CandidateScores, Proposals

LOCAL_BEST, LOCAL_EACH = 10, 8
LOCAL_STEPS = (0.08, 0.04, 0.02)
"""Of the candidates around the best ones, round by round."""
EXPECTED_GAIN = "auto:expected_gain"
"""The system attribute of a trial with the hypervolume that its plan was expected to add, as a share of what the study
had reached. Trials that were enqueued, or asked before there was a model, have none."""
FIXED = "fixed_params"
"""The system attribute in which Optuna keeps the parameters that a trial was enqueued with."""
REMEMBERED = 1000
"""Plans of trials that are being asked."""
SILENT = timedelta(seconds=20)
"""A trial that another process asked for has its plan by then, or never will: its process was killed."""
MOST_SILENT = 8
"""Processes that may ask at the same moment."""

logger = logging.getLogger(__name__)
Place: TypeAlias = Callable[[FrozenTrial], Mapping[str, Any] | None]
Result = TypeVar("Result")


class AutoSampler(BaseSampler):
    """Proposes the plan with the largest expected hypervolume improvement.

    Works with any Optuna study as it is. A study of a conditional space should pass a pool, and evidence where trials
    are known in part:

        def pool(rng: random.Random, count: int) -> list[dict[str, Any]]:
            every = all_parameters()  # if they are few
            return every if len(every) < count else [draw_parameters(rng) for _ in range(count)]

        def evidence(trial: FrozenTrial) -> Evidence | None:
            measured = trial.user_attrs.get("measured")
            if measured is None:
                return None
            accuracy, deviation = forecast(measured)  # or what was confirmed, with a small deviation
            return Evidence((accuracy, measured["latency_ms"]), (deviation, 0.03))

        accuracy, latency = ObjectiveSpec(reference=0.87), ObjectiveSpec(is_cost=True, reference=4.4)
        AutoSampler(seed=0, objectives=(accuracy, latency), pool=pool, evidence=evidence)

    `pool` returns parameters of valid plans, each as the trial will suggest them; fewer than asked only when the
    space has no more. That of a space file is `vitsearch.study.plan_pool.PlanParameters`. Without a pool, the
    parameters that all complete trials have are sampled together, others at random. `evidence` is asked about
    complete, pruned and running trials; without it the values of complete trials count. `objectives` declares what is
    known of each objective beforehand; without it none is a cost. `features` are numbers that help to predict costs,
    such as the logarithm of the multiplications. `prior` gives for a plan of the pool, for each objective, what is
    expected before its like was tried and the best that is possible, `None` where that is open: such as the values of
    the model from which it is cut; it is asked again whenever its `revision` has changed, if it has one. A plan that
    the front dominates even at its best is not asked for. `place` gives the parameters that an ended trial has in the
    pool, which may have changed since it was asked; None for one that is not in it, which is ignored. Until
    `startup_trials` trials are known in all objectives, plans spread over the space.

    Running trials count as if they had reached what is predicted. Each proposal depends on the seed, the number of the
    trial and the other trials, so a study that goes on elsewhere proposes the same. Constraints of trials weigh a plan
    by its probability to meet them.
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        objectives: Sequence[ObjectiveSpec] | None = None,
        pool: Pool | None = None,
        evidence: Judge | None = None,
        features: Features | None = None,
        prior: Prior | None = None,
        place: Place | None = None,
        startup_trials: int = 10,
    ) -> None:
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self._pool, self._features, self._prior = pool, features, prior
        self._evidence = evidence or of_complete
        self._place = place
        self._objectives = objectives
        self._startup_trials = startup_trials
        self._plans: PlanPool | None = None
        self._proposals = Proposals(self._seed)
        self._intersection = IntersectionSearchSpace()
        self._plan_of_trial: OrderedDict[int, Plan] = OrderedDict()
        self._asked: OrderedDict[int, None] = OrderedDict()
        self._rows: dict[int, Floats] = {}
        self._rows_space: dict[str, BaseDistribution] = {}
        self._keys: dict[int, Any] = {}
        self._study_name = ""
        self._lock = threading.RLock()
        self._warned = False

    # ---- Optuna's interface

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Note that this process asks.

        Raises:
            ValueError: `objectives` has another length than the study has objectives.
        """
        if self._objectives is not None:
            check_length("objectives of AutoSampler", self._objectives, len(study.directions))
        with self._lock:
            self._enter(study)
            _limited(self._asked)[trial._trial_id] = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing with a pool: its plans are answered parameter by parameter, as each decides which ones follow."""
        if self._pool is not None:
            return {}
        space = self._intersection.calculate(study)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._pool is not None or not search_space:
            return {}
        with self._lock:
            self._enter(study)
            plan = self._from_distributions(study, trial, search_space)
            _limited(self._plan_of_trial)[trial._trial_id] = plan
            return plan

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._pool is not None:
            with self._lock:
                self._enter(study)
                plan = self._plan_of(study, trial)
            if param_name in plan and _allows(param_distribution, plan[param_name]):
                return plan[param_name]
        rng = random.Random(f"{self._seed}:{trial.number}:{param_name}")
        if isinstance(param_distribution, CategoricalDistribution):
            return rng.choice(param_distribution.choices)
        return value_at(param_distribution, rng.random())

    def _enter(self, study: Study) -> None:
        """Forget the trials of another study: numbers mean something else here."""
        if study.study_name != self._study_name:
            self._study_name = study.study_name
            for memory in (self._plan_of_trial, self._asked, self._keys, self._rows):
                memory.clear()

    # ---- a pool

    def _plan_of(self, study: Study, trial: FrozenTrial) -> Plan:
        """The plan of the pool that the trial follows; empty when none has what the trial has already."""
        if trial._trial_id not in self._plan_of_trial:
            _limited(self._plan_of_trial)[trial._trial_id] = self._from_pool(study, trial)
        return self._plan_of_trial[trial._trial_id]

    @one_blas_thread()
    def _from_pool(self, study: Study, trial: FrozenTrial) -> Plan:
        assert self._pool is not None
        if self._plans is None:
            self._plans = PlanPool(self._pool, self._features, self._prior, self._seed)
        plans, keys, candidates = self._plans.at(trial.number)
        trials = self._trials(study)
        taken = self._taken(trials, trial)
        agreeing = _agreeing(plans, trial.system_attrs.get(FIXED, {}) | trial.params)
        rows = [row for row in agreeing if keys[row] not in taken] or agreeing
        if not rows:
            return {}
        observed = self._observed(study, trials, trial)
        at = self._plans.encode(observed.plans, [self._key(each) for each in observed.trials])
        open_candidates = candidates.take(rows)
        scores = self._guarded(lambda: self._scores_of_pool(observed, at, open_candidates, trial.number))
        if scores is None:
            return plans[random.Random(f"{self._seed}:{trial.number}").choice(rows)]
        order: list[int] = np.argsort(-scores.scores, kind="stable").tolist()
        chosen = _first_free([plans[rows[i]] for i in order], taken, self._silent(trials, trial))
        self._note_gain(study, trial, scores.share(order[chosen]))
        return plans[rows[order[chosen]]]

    def _scores_of_pool(
        self, observed: Observations, at: Candidates, candidates: Candidates, number: int
    ) -> CandidateScores:
        if not self._is_modelled(observed):
            return CandidateScores(_spread(at.points, candidates.points, number))
        return self._proposals.scorer(observed, at, candidates, number).scores(candidates)

    # ---- distributions

    @one_blas_thread()
    def _from_distributions(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = self._trials(study)
        observed = self._observed(study, trials, trial, space)
        taken, silent = self._taken(trials, trial), self._silent(trials, trial)
        if self._is_modelled(observed):
            drawn = DrawnPlans(space, np.random.default_rng([self._seed, trial.number]))
            at = self._positions(drawn, observed, space)
            ranked = self._guarded(lambda: self._ranked(observed, drawn, at, trial.number))
            if ranked is not None:
                positions, scores = ranked
                chosen = _first_free(map(drawn.plan, positions), taken, silent)
                self._note_gain(study, trial, scores.share(chosen))
                return drawn.plan(positions[chosen])
        count = max(self._startup_trials, 1)
        block, place = divmod(trial.number, count)
        plans = first_plans(space, count, [self._seed, block])
        ordered = plans[place:] + plans[:place]
        return ordered[_first_free(ordered, taken, 0)]

    def _ranked(
        self, observed: Observations, drawn: DrawnPlans, known: Floats, number: int
    ) -> tuple[Floats, CandidateScores]:
        """Positions (plans, knobs), the best one first, and their scores: drawn plans, and steps from the best ones."""
        positions = drawn.positions(known[_best_rows(observed)])
        candidates = drawn.encode(positions)
        scorer = self._proposals.scorer(observed, drawn.encode(known), candidates, number)
        scores = scorer.scores(candidates)
        for step in LOCAL_STEPS:
            best = np.argsort(-scores.scores, kind="stable")[:LOCAL_BEST]
            near = drawn.near(positions[best], LOCAL_EACH, step)
            positions = np.concatenate([positions, near])
            scores = scores.and_then(scorer.scores(drawn.encode(near)))
        order = np.argsort(-scores.scores, kind="stable")
        return positions[order], CandidateScores(scores.scores[order], scores.hypervolume)

    def _positions(self, drawn: DrawnPlans, observed: Observations, space: Mapping[str, BaseDistribution]) -> Floats:
        """Where the observed trials lie, (trials, knobs); of finished ones it is remembered."""
        if dict(space) != self._rows_space:
            self._rows_space = dict(space)
            self._rows.clear()
        rows = []
        for trial in observed.trials:
            row = self._rows.get(trial._trial_id)
            if row is None:
                row = drawn.positions_of([trial.params])[0]
                if trial.state.is_finished():
                    self._rows[trial._trial_id] = row
            rows.append(row)
        return np.array(rows).reshape(len(rows), len(space))

    # ---- both

    def _observed(
        self,
        study: Study,
        trials: Sequence[FrozenTrial],
        current: FrozenTrial,
        space: Mapping[str, BaseDistribution] | None = None,
    ) -> Observations:
        others = [trial for trial in trials if trial.number != current.number]
        if space is not None:
            others = [trial for trial in others if space.keys() <= trial.params.keys()]
        specs = self._objectives or [ObjectiveSpec()] * len(study.directions)
        return observe(others, study.directions, self._evidence, specs)

    def _trials(self, study: Study) -> list[FrozenTrial]:
        """All trials that have a place; those that this sampler gave a plan have it as their parameters, whatever they
        suggested yet."""
        trials = (self._placed(trial) for trial in study.get_trials(deepcopy=False))
        return [self._with_plan(trial) for trial in trials if trial is not None]

    def _placed(self, trial: FrozenTrial) -> FrozenTrial | None:
        if self._place is None or not trial.state.is_finished():
            return trial
        parameters = self._place(trial)
        if parameters is None or parameters == trial.params:
            return None if parameters is None else trial
        placed = copy.copy(trial)
        placed.params = dict(parameters)
        placed.system_attrs = {name: value for name, value in trial.system_attrs.items() if name != FIXED}
        return placed

    def _with_plan(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state != TrialState.RUNNING or not (plan := self._plan_of_trial.get(trial._trial_id)):
            return trial
        planned = copy.copy(trial)
        planned.params = plan | trial.params
        return planned

    def _silent(self, trials: Sequence[FrozenTrial], current: FrozenTrial) -> int:
        """How many trials other processes are asking for right now: they see what this trial sees, so they take the
        best plans. What was asked for here is not among them, nor what was asked for before others that have their
        plans, or long ago: whoever did so is dead."""
        newest = max((t.number for t in trials if t.params and t.number < current.number), default=-1)
        asking = [
            t
            for t in trials
            if newest < t.number < current.number and t.state == TrialState.RUNNING and t._trial_id not in self._asked
        ]
        return min(sum(_are_close(t, current) for t in asking), MOST_SILENT)

    def _note_gain(self, study: Study, trial: FrozenTrial, share: float | None) -> None:
        if share is not None:
            study._storage.set_trial_system_attr(trial._trial_id, EXPECTED_GAIN, share)

    def _is_modelled(self, observed: Observations) -> bool:
        return int(observed.valued.sum()) >= max(self._startup_trials, 1)

    def _taken(self, trials: Sequence[FrozenTrial], current: FrozenTrial) -> set[Any]:
        """Keys of the plans that other trials have, waiting ones included."""
        return {self._key(trial) for trial in trials if trial.number != current.number}

    def _key(self, trial: FrozenTrial) -> Any:
        if trial._trial_id in self._keys:
            return self._keys[trial._trial_id]
        key = key_of(trial.system_attrs.get(FIXED, {}) | trial.params)
        if trial.state.is_finished():
            self._keys[trial._trial_id] = key
        return key

    def _guarded(self, work: Callable[[], Result]) -> Result | None:
        """A fit can fail on odd data; the study goes on with random plans."""
        try:
            return work()
        except (np.linalg.LinAlgError, ArithmeticError, ValueError) as error:
            if not self._warned:
                logger.warning("the sampler's model failed (%s); it asks at random where that happens", error)
            self._warned = True
            return None


def _agreeing(plans: Sequence[Plan], fixed: Mapping[str, Any]) -> Sequence[int]:
    """Rows of the plans that have these parameters."""
    if not fixed:
        return range(len(plans))
    return [row for row, plan in enumerate(plans) if all(plan.get(name, v) == v for name, v in fixed.items())]


def _first_free(ranked: Iterable[Plan], taken: Collection[Any], passed: int) -> int:
    """The place of the best plan that no trial has, after `passed` others; without one, of the last such plan, or
    0."""
    best = 0
    seen = set(taken)
    for place, plan in enumerate(ranked):
        key = key_of(plan)
        if key in seen:
            continue
        if passed == 0:
            return place
        seen.add(key)
        passed -= 1
        best = place
    return best


def _are_close(trial: FrozenTrial, current: FrozenTrial) -> bool:
    """Whether two trials were started at about the same time, by the clocks of two processes."""
    if trial.datetime_start is None or current.datetime_start is None:
        return False
    return abs(current.datetime_start - trial.datetime_start) <= SILENT


def _limited(memory: OrderedDict[int, Any]) -> OrderedDict[int, Any]:
    """The memory without its oldest entries, so that there is room for one more."""
    while len(memory) >= REMEMBERED:
        memory.popitem(last=False)
    return memory


def _best_rows(observed: Observations) -> list[int]:
    measured = np.flatnonzero(observed.valued)
    return [int(measured[i]) for i in np.flatnonzero(pareto(observed.values[measured]))]


def _spread(at: Points, candidates: Points, number: int) -> Floats:
    """The distance to the nearest plan that is known; without one, any order."""
    if not len(at):
        return np.random.default_rng(number).random(len(candidates))
    squared = (candidates.distance**2).sum(1)[:, None] + (at.distance**2).sum(1)
    return np.asarray((squared - 2 * candidates.distance @ at.distance.T).min(axis=1))


def _allows(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False
