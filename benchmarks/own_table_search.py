"""One search on our own table, with the decisions of a run: its screening, its forecasts and its rounds.

    leaderboard   unpruned models are told first and count as no training
    ask           a plan that breaks a limit or would be dominated is put aside; of the others rung 0 is known
    choose        of three new candidates and all that wait, the one of the largest expected gain is trained
    tell          its accuracy, and, as its weights serve every deployment, those of the others that gain anything

The sampler alone differs between searches (`vitsearch.search` has the rest, which is used here as it is).

    python benchmarks/own_table_search.py --seeds 10 --rounds 14
    python benchmarks/own_table_search.py --seeds 10 --rounds 14 --forecast-offset -0.02
    python benchmarks/own_table_search.py --seeds 10 --rounds 14 --no-information --samplers auto random
    python benchmarks/own_table_search.py --seeds 10 --rounds 14 --constant 0.2 0.05 --samplers auto random

The second adds to every forecast of accuracy what the line of the forecast never sees; the third gives each shape the
rung 0 of another one of its backbone, and the last one all the same rung 0, so that it carries no information.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import optuna
from own_table_data import OwnTable, deployment_of
from own_table_plans import plans_of_table, shape_of
from own_table_rows import Built

from vitsearch.core.figures import Z_95, Estimate, Figure, Metrics
from vitsearch.core.limits import bounds, constraints, reference_values
from vitsearch.core.pareto import Loss, hypervolume, loss
from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.priors import prior_of
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.pipeline.jobs import Evaluation
from vitsearch.search.acquisition import (
    expected_front,
    expected_gain,
    most_promising,
    prospects,
    worth_testing,
)
from vitsearch.search.forecast.calibration import CalibratedModel
from vitsearch.search.forecast.quality_model import FinishedTraining, QualityModel, RefittedModel
from vitsearch.search.goals import Goals
from vitsearch.search.plan_requests import LeaderboardEntry
from vitsearch.search.posterior import Posterior
from vitsearch.search.sampler import TrialEvidence, UnprunedPrior, declared
from vitsearch.search.scheduler import equal_price
from vitsearch.search.verdicts import judge_screen
from vitsearch.study.auto_sampler import AutoSampler
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.suggest import OptunaSuggest, make_sampler

OBJECTIVES = ("accuracy", "cpu_ms_p50")
CANDIDATES = 3
ASKS_OF_A_ROUND = 40
"""After so many, a round has no more than it has."""
SCREEN_DEVIATION, TRAINING_DEVIATION = 0.025, 0.003
"""How far a screening measurement (relative) and a training of one search lie from the table: half the half-width of a
screen on a quiet machine, and what a second training of the same plan differs by (`search/posterior.py`). Without them
every search by a sampler that draws nothing would be the same. Hypervolume counts the values of the table."""


@cache
def table() -> OwnTable:
    return OwnTable.read()


@cache
def every_parameters() -> tuple[dict[str, str | float], ...]:
    """Of the plans whose deployment the table has for their backbone."""
    plans = plans_of_table()
    return tuple(PlanParameters(plans, lambda plan: table().has(plan.backbone, deployment_of(plan))).all())


@dataclass(frozen=True)
class TablePool(PlanParameters):
    """The plans of the table, listed once for all searches."""

    def __call__(self, rng: Any, count: int) -> list[dict[str, str | float]]:
        assert len(every_parameters()) < count
        return list(every_parameters())


@dataclass(frozen=True)
class Facts:
    """What is true of the table: its goals, the volume of the leaderboard, and that of everything."""

    goals: Goals
    leaders: Mapping[Plan, LeaderboardEntry]
    least: float
    most: float
    bases: Mapping[str, Mapping[str, float]]


@cache
def facts() -> Facts:
    plans, own_table = plans_of_table(), table()
    baseline = metrics_of(plans.baseline(), accuracy_known=True)
    assert baseline is not None
    limits = bounds(plans.space.limits, baseline.values)
    corner = loss(OBJECTIVES, reference_values(OBJECTIVES, limits, baseline.values))
    assert corner is not None
    images = plans.baseline().recipe.images
    goals = Goals(OBJECTIVES, limits, corner, plans.space.search.margin, baseline, training_images=images)
    leaders = {}
    for plan in plans.leaderboard():
        metrics = metrics_of(plan, accuracy_known=True)
        if metrics is not None:
            leaders[plan] = LeaderboardEntry(keys_of(plan), metrics)
    pool = PlanParameters(plans)
    every = [point for parameters in every_parameters() if (point := true_loss(pool.plan(parameters))) is not None]
    first = [point for plan in leaders if (point := true_loss(plan)) is not None]
    bases = {shape.backbone: {"accuracy": shape.base} for shape in own_table.shapes.values()}
    return Facts(goals, leaders, hypervolume(first, corner), hypervolume(every, corner), bases)


@dataclass(frozen=True)
class Scenario:
    """What is wrong with the forecasts: an accuracy that is added to each, that each shape has the rung 0 of another
    one, or that all have the same one (KL and accuracy lost)."""

    forecast_offset: float = 0.0
    no_information: bool = False
    constant: tuple[float, float] | None = None


AS_IT_IS = Scenario()


@dataclass(frozen=True, eq=False)
class MistakenModel(QualityModel):
    """A line whose forecasts are off by a constant that its fit never sees."""

    offset: float = 0.0

    def predict(self, start: RefittedModel) -> Estimate:
        estimate = super().predict(start)
        return replace(estimate, mean=estimate.mean + self.offset)


class MistakenPosterior(Posterior):
    """The posterior of a search, with such a line."""

    def __init__(self, goals: Goals, bases: Mapping[str, Mapping[str, float]], offset: float) -> None:
        self._offset = offset
        super().__init__(goals, {}, bases)

    def _fit(self, name: str, observed: Sequence[FinishedTraining]) -> CalibratedModel:
        def mistaken(*data: Any) -> QualityModel:
            return MistakenModel(**vars(QualityModel.fit(*data)), offset=self._offset)

        prior = prior_of(name).after(self.goals.training_images)
        return CalibratedModel.fit(observed, prior, self.bases, mistaken)


def evaluation_of(shape: Built) -> Evaluation:
    """What rung 0 of a shape says."""
    return Evaluation({"accuracy": shape.holdout}, shape.kl, 1000)


@cache
def evaluations_of_others(seed: int) -> Mapping[str, Evaluation]:
    """By shape, the rung 0 of another shape of its backbone."""
    evaluations: dict[str, Evaluation] = {}
    for backbone in facts().bases:
        shapes = [s for s in table().shapes.values() if s.backbone == backbone and not s.needs_no_training]
        order = np.random.default_rng(seed).permutation(len(shapes))
        evaluations |= {shape.key: evaluation_of(shapes[other]) for shape, other in zip(shapes, order, strict=True)}
    return evaluations


def true_loss(plan: Plan) -> Loss | None:
    metrics = metrics_of(plan, accuracy_known=True)
    return None if metrics is None else loss(OBJECTIVES, metrics.values)


@cache
def metrics_of(plan: Plan, accuracy_known: bool) -> Metrics | None:
    """The figures of a plan after its screening, or after its training; None where it cannot be run."""
    shape = table().of(plan)
    cost = None if shape is None else table().cost(shape, deployment_of(plan))
    if shape is None or cost is None:
        return None
    half = Z_95 * SCREEN_DEVIATION
    figures = {"cpu_ms_p50": Figure(cost.ms, cost.ms * math.exp(-half), cost.ms * math.exp(half))}
    if accuracy_known:
        figures["accuracy"] = Figure(table().accuracy(shape, deployment_of(plan)))
    return Metrics(figures)


def seen(metrics: Metrics, keys: Keys, seed: int) -> Metrics:
    """The figures as one search finds them."""
    words = [zlib.crc32(word.encode()) for word in (keys.graph_key, keys.weights_key)]
    of_graph, of_weights = (float(np.random.default_rng([seed, word]).standard_normal()) for word in words)
    factor = math.exp(SCREEN_DEVIATION * of_graph)

    def moved(name: str, figure: Figure) -> Figure:
        if name == "accuracy":
            return Figure(min(1.0, (figure.value or 0.0) + TRAINING_DEVIATION * of_weights))
        value, low, high = (None if each is None else each * factor for each in (figure.value, figure.low, figure.high))
        return Figure(value, low, high)

    return Metrics({name: moved(name, figure) for name, figure in metrics.figures.items()})


def keys_of(plan: Plan) -> Keys:
    shape = table().of(plan)
    key = str(shape_of(plan)) if shape is None else shape.key
    return Keys(key, f"{key} {deployment_of(plan)}", None, "local")


@dataclass
class TableSearch:
    """`volumes` has, after each round, the share of what can be gained over the leaderboard: the best point that a
    round has found worth a training, or none. `screened` plans were measured and `trained` ones trained."""

    sampler: str
    seed: int
    scenario: Scenario = AS_IT_IS
    volumes: list[float] = field(default_factory=list)
    screened: int = 0
    trained: int = 0

    def __post_init__(self) -> None:
        self._facts, self._plans = self._read_facts(), plans_of_table()
        self._posterior = MistakenPosterior(self._facts.goals, self._facts.bases, self.scenario.forecast_offset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=self._make_sampler())
        self._waiting: dict[str, tuple[optuna.Trial, RunningTrial]] = {}
        self._seen: dict[str, int] = {}
        self._low_rounds = 0
        self._reached: list[Loss] = []

    def _read_facts(self) -> Facts:
        return facts()

    def _metrics_of(self, plan: Plan) -> Metrics | None:
        """The figures of a plan after its training."""
        return metrics_of(plan, accuracy_known=True)

    def _make_sampler(self) -> optuna.samplers.BaseSampler:
        if self.sampler != "auto":
            return make_sampler(self.sampler, self.seed)
        corner = self._facts.goals.reference
        pool = TablePool(self._plans)
        return AutoSampler(
            seed=self.seed,
            objectives=declared(OBJECTIVES, {"accuracy": 1.0 - corner[0], "cpu_ms_p50": math.exp(corner[1])}),
            pool=pool,
            prior=UnprunedPrior(pool, self._posterior, self._facts.leaders),
            evidence=TrialEvidence(self._posterior),
        )

    def run(self, trainings: int) -> None:
        for plan in self._facts.leaders:
            self._study.enqueue_trial(self._plans.parameters(plan))
        for _ in self._facts.leaders:
            trial, plan = self._ask()
            self._tell(trial, self._confirmed(trial.number, plan, 0))
        for _ in range(trainings):
            self._fill_round()
            chosen = self._choose()
            if chosen is not None:
                self.trained += 1
                self._train(*self._waiting.pop(chosen))
            self.volumes.append(self._share())

    def _share(self) -> float:
        reached = hypervolume(self._reached, self._facts.goals.reference)
        return (reached - self._facts.least) / (self._facts.most - self._facts.least)

    # ---- asking

    def _ask(self) -> tuple[optuna.Trial, Plan]:
        trial = self._study.ask()
        return trial, self._plans.plan(OptunaSuggest(trial, lambda name, choices: choices))

    def _fill_round(self) -> None:
        new = 0
        for _ in range(ASKS_OF_A_ROUND):
            if new == CANDIDATES:
                return
            trial, plan = self._ask()
            record = self._screened(trial, plan)
            if record is None:
                new += 1
            else:
                self._tell(trial, record)

    def _screened(self, trial: optuna.Trial, plan: Plan) -> Record | None:
        """The record of a plan that is put aside or needs no training; None for a new candidate, which waits."""
        keys, metrics = keys_of(plan), metrics_of(plan, accuracy_known=False)
        if keys.graph_key in self._seen:
            return self._again(trial, plan, keys)
        self._seen[keys.graph_key] = trial.number
        shape = table().of(plan)
        self.screened += table().has(plan.backbone, deployment_of(plan))
        if metrics is None or shape is None:
            return Record("failed", plan, "it cannot be run", keys)
        running = RunningTrial(trial.number, plan, keys, seen(metrics, keys, self.seed))
        if verdict := judge_screen(self._posterior, running):
            return verdict
        running = self._posterior.predict(running, {"accuracy": shape.base}, self._evaluation(shape))
        if keys.weights_key in self._posterior.trained or running.needs_no_training:
            if keys.weights_key in self._posterior.trained:
                running = self._posterior.as_trained(running)
            if self._gain(running) <= POLICY.training.least_gain:
                return running.to_record("not_promoted", "", {})
            return self._confirmed(trial.number, plan, running.rung, running)
        self._waiting[keys.graph_key] = trial, running
        return None

    def _evaluation(self, shape: Built) -> Evaluation:
        evaluation = evaluation_of(shape)
        if self.scenario.constant and not shape.needs_no_training:
            kl, lost = self.scenario.constant
            return Evaluation({"accuracy": shape.base - lost}, kl, 1000)
        if self.scenario.no_information:
            return evaluations_of_others(self.seed).get(shape.key, evaluation)
        return evaluation

    def _again(self, trial: optuna.Trial, plan: Plan, keys: Keys) -> Record:
        """As the scheduler answers it: what is final is told again, with its values."""
        other = self._seen[keys.graph_key]
        record = self._posterior.records.get(other)
        if record is None or record.outcome not in ("confirmed", "infeasible", "failed"):
            return Record("duplicate", plan, "", keys, duplicate_of=other)
        return replace(record, plan=plan, duplicate_of=other)

    # ---- choosing and training

    def _gain(self, running: RunningTrial) -> float:
        front = expected_front(self._posterior)
        return expected_gain(self._posterior, running, front) / front.hypervolume

    def _choose(self) -> str | None:
        front = expected_front(self._posterior)
        for key, (trial, running) in list(self._waiting.items()):
            if running.keys.weights_key in self._posterior.trained:  # meanwhile, for another deployment
                del self._waiting[key]
                self._tell(trial, running.to_record("not_promoted", "", {}))
        least = POLICY.training.least_gain * front.hypervolume
        waiting = [running for _, running in self._waiting.values()]
        weighed = dict(zip(self._waiting, prospects(self._posterior, waiting, front), strict=True))
        for key, prospect in weighed.items():
            if not prospect.is_worth(least):
                trial, running = self._waiting.pop(key)
                self._tell(trial, running.to_record("not_promoted", "", {}))
        kept = list(self._waiting)
        candidates = [weighed[key] for key in kept]
        best = most_promising(candidates, least, equal_price)
        self._low_rounds = 0 if best is not None else self._low_rounds + 1
        if self._low_rounds >= POLICY.ending.low_rounds:
            best = worth_testing(candidates, least, equal_price)
        return None if best is None else kept[best]

    def _train(self, trial: optuna.Trial, running: RunningTrial) -> None:
        self._tell(trial, self._confirmed(trial.number, running.plan, 3, running))
        for other in self._other_deployments(running.plan):
            self._study.enqueue_trial(self._plans.parameters(other))
            enqueued, plan = self._ask()
            self._seen[keys_of(plan).graph_key] = enqueued.number
            self._tell(enqueued, self._confirmed(enqueued.number, plan, 3))

    def _other_deployments(self, plan: Plan) -> list[Plan]:
        others = []
        for leader in self._facts.leaders:
            other = replace(plan, deployments=leader.deployments)
            if leader.backbone != plan.backbone or other == plan or keys_of(other).graph_key in self._told:
                continue
            metrics = self._metrics_of(other)
            point = None if metrics is None else loss(OBJECTIVES, metrics.values)
            front = expected_front(self._posterior)
            if point and hypervolume([*front.losses, point], self._facts.goals.reference) > front.hypervolume:
                others.append(other)
        return others

    @property
    def _told(self) -> set[str]:
        return {record.keys.graph_key for record in self._posterior.records.values() if record.keys}

    # ---- telling

    def _confirmed(self, number: int, plan: Plan, rung: int, running: RunningTrial | None = None) -> Record:
        metrics = self._metrics_of(plan)
        assert metrics is not None
        point = loss(OBJECTIVES, metrics.values)
        assert point is not None
        self._reached.append(point)
        keys = keys_of(plan)
        self._seen.setdefault(keys.graph_key, number)
        if rung:  # the leaderboard and what needs no training are as they are
            metrics = seen(metrics, keys, self.seed)
        broken = constraints(self._facts.goals.bounds, metrics.values)
        proxy = None if running is None else running.proxy
        return Record("confirmed", plan, "", keys, metrics, broken, proxy, rung)

    def _tell(self, trial: optuna.Trial, record: Record) -> None:
        """As a study tells it; others than ours get the logarithm of the cost, which helps them."""
        self._posterior.add(trial.number, record)
        for name, value in record.constraints.items():
            trial.set_constraint(name, value)
        accuracy, cost = (record.metrics.value(name) for name in OBJECTIVES)
        if record.outcome == "failed":
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif record.outcome != "confirmed" or accuracy is None or cost is None:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, [accuracy, cost if self.sampler == "auto" else math.log(cost)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--samplers", nargs="+", default=["auto"])
    parser.add_argument("--forecast-offset", type=float, default=0.0, metavar="ACCURACY")
    parser.add_argument("--no-information", action="store_true")
    parser.add_argument("--constant", type=float, nargs=2, metavar=("KL", "LOST"))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    constant, half = tuple(options.constant) if options.constant else None, options.rounds // 2
    scenario = Scenario(options.forecast_offset, options.no_information, constant)
    print(f"{scenario}\n\n| sampler | seed | at {half} | at {options.rounds} | trained | screened | CPU s |")
    print("|---|---|---|---|---|---|---|")
    facts()
    for sampler in options.samplers:
        ends = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            started, search = time.process_time(), TableSearch(sampler, seed, scenario)
            search.run(options.rounds)
            ends.append(search.volumes[-1])
            cells = [sampler, seed, f"{search.volumes[half - 1]:.3f}", f"{ends[-1]:.3f}", search.trained]
            cells += [search.screened, f"{time.process_time() - started:.1f}"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        error = statistics.stdev(ends) / math.sqrt(len(ends)) if len(ends) > 1 else math.nan
        print(f"| {sampler} | mean | | {statistics.mean(ends):.3f} +- {error:.3f} | | | |", flush=True)


if __name__ == "__main__":
    main()
