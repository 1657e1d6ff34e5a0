"""The plans of our own table: the space of the quickstart, with fewer levels of some knobs of the larger families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.search.plan_space import plan_space
from vitsearch.space import load
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace

SPACE = Path(__file__).with_name("own_table.yaml")
LEVELS: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("vit_fmnist_p4", "resolution"): (20, 28),
    ("vit_fmnist_p4", "depth_pruning_ratio"): (0.0, 0.33),
    ("vit_fmnist_p4", "head_pruning_ratio"): (0.0, 0.5),
    ("vit_fmnist_p4", "ffn_pruning_ratio"): (0.0, 0.5, 0.75),
    ("mobilevit_fmnist", "depth_pruning_ratio"): (0.0, 0.33),
    ("mobilevit_fmnist", "head_pruning_ratio"): (0.0, 0.33, 0.67),
}
"""By backbone and knob, the levels that the table has; of all others it has every level of the space."""
Shape = tuple[str, int, Compression]
"""Backbone, resolution in pixels, and what is cut."""


@cache
def plans_of_table() -> PlanSpace:
    plans = plan_space(load(SPACE).space)
    supports = plans.supports

    def in_table(backbone: str, knob: str, value: Any) -> str | None:
        if value not in LEVELS.get((backbone, knob), (value,)):
            return "the table does not have this level"
        return supports(backbone, knob, value)

    return replace(plans, supports=cache(in_table))


def shape_of(plan: Plan) -> Shape:
    return plan.backbone, plan.resolution.height, plan.compression


def text_of(deployment: Deployment) -> str:
    return f"{deployment.runtime} {deployment.precision}"


def every_plan() -> list[Plan]:
    pool = PlanParameters(plans_of_table())
    return [pool.plan(parameters) for parameters in pool.all()]


def plans_by_shape(plans: Iterable[Plan]) -> dict[Shape, list[Plan]]:
    """The plans of each shape: one for each deployment."""
    by_shape: dict[Shape, list[Plan]] = {}
    for plan in plans:
        by_shape.setdefault(shape_of(plan), []).append(plan)
    return by_shape
