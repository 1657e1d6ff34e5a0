"""What is true of the chosen table: its goals, the figures of each plan, and the hypervolume that can be reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from own_table_data import OwnTable, deployment_of
from own_table_plans import chosen, plans_of_table, shape_of
from own_table_rows import Built

from vitsearch.core.figures import Z_95, Figure, Metrics
from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.pareto import Loss, hypervolume, loss
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys
from vitsearch.search.goals import Goals
from vitsearch.search.plan_requests import LeaderboardEntry
from vitsearch.stages import Evaluation
from vitsearch.study.plan_pool import PlanParameters

OBJECTIVES = ("accuracy", "cpu_ms_p50")
SCREEN_DEVIATION = 0.025
"""How far a measurement of one search lies from the table (relative): half the half-width of a screen on a quiet
machine."""


@cache
def table() -> OwnTable:
    return OwnTable.read()


@cache
def every_parameters() -> tuple[dict[str, str | float], ...]:
    """Of the plans that the table holds."""
    return tuple(PlanParameters(plans_of_table(), table().holds).all())


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


def evaluation_of(shape: Built) -> Evaluation:
    """What rung 0 of a shape says."""
    return Evaluation({"accuracy": shape.holdout}, shape.kl, chosen().holdout_images)


@cache
def true_loss(plan: Plan) -> Loss | None:
    metrics = metrics_of(plan, accuracy_known=True)
    return None if metrics is None else loss(OBJECTIVES, metrics.values)


@cache
def metrics_of(plan: Plan, accuracy_known: bool) -> Metrics | None:
    """The figures of a plan after its screening, or after its training; None where it cannot be run."""
    shape = table().of(plan)
    cost = None if shape is None else table().cost(shape, deployment_of(plan))
    if shape is None or cost is None or not table().is_judged(shape):
        return None
    half = Z_95 * SCREEN_DEVIATION
    figures = {"cpu_ms_p50": Figure(cost.ms, cost.ms * math.exp(-half), cost.ms * math.exp(half))}
    if accuracy_known:
        figures["accuracy"] = Figure(table().accuracy(shape, deployment_of(plan)))
    return Metrics(figures)


def keys_of(plan: Plan) -> Keys:
    shape = table().of(plan)
    key = str(shape_of(plan)) if shape is None else shape.key
    return Keys(key, f"{key} {deployment_of(plan)}", None, "local")
