"""The plans of our own tables: the space of each, with fewer levels of some knobs of the larger families.

`choose` says which table a script reads, before it reads anything. The first, `own`, is on Fashion-MNIST, and models
of the search were fitted on it; on the second nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.search.plan_space import plan_space
from vitsearch.space import judge
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace

Shape = tuple[str, int, Compression]
"""Backbone, resolution in pixels, and what is cut."""


@dataclass(frozen=True)
class TableSpec:
    """What differs between tables.

    Attributes:
        name: What its files begin with; NAME.yaml is its space.
        levels: By backbone and knob, the levels that the table has; of all others it has every level of the space.
        rounded_images: The first validation images, on which the loss of a precision at rung 0 is judged.
        holdout_images: Of the data.
        validation_images: Of the data.
        trained: How many shapes of each backbone are trained first; where it is empty, all are.
        is_completed: Whether what was not measured is in it with a prediction; else it is not in it, and what a
            precision costs is judged on the trained weights.
    """

    name: str
    levels: Mapping[tuple[str, str], tuple[float, ...]]
    rounded_images: int
    holdout_images: int
    validation_images: int
    trained: Mapping[str, int] = field(default_factory=dict)
    is_completed: bool = False

    def file(self, ending: str) -> Path:
        return Path(__file__).with_name(self.name + ending)


TABLES = {
    "own": TableSpec(
        "own_table",
        {
            ("vit_fmnist_p4", "resolution"): (20, 28),
            ("vit_fmnist_p4", "depth_pruning_ratio"): (0.0, 0.33),
            ("vit_fmnist_p4", "head_pruning_ratio"): (0.0, 0.5),
            ("vit_fmnist_p4", "ffn_pruning_ratio"): (0.0, 0.5, 0.75),
            ("mobilevit_fmnist", "depth_pruning_ratio"): (0.0, 0.33),
            ("mobilevit_fmnist", "head_pruning_ratio"): (0.0, 0.33, 0.67),
        },
        rounded_images=400,
        holdout_images=1000,
        validation_images=2000,
        # fewer of the one whose training takes longest and is never on a front
        trained={"efficientvit_fmnist": 28, "mobilevit_fmnist": 24, "vit_fmnist_p4": 8},
        is_completed=True,
    ),
    "second": TableSpec(
        "second_table",
        {("levit", "ffn_pruning_ratio"): (0.0, 0.25, 0.5, 0.75)},
        rounded_images=1891,
        holdout_images=566,
        validation_images=1891,
    ),
}
_chosen = [TABLES["own"]]


def choose(name: str) -> None:
    """Name the table that everything in this process is about, before any of it is read."""
    _chosen[0] = TABLES[name]


def chosen() -> TableSpec:
    return _chosen[0]


@cache
def plans_of_table() -> PlanSpace:
    spec = chosen()
    plans = plan_space(judge(spec.file(".yaml"), (), Catalogue.examined).require().space)
    supports = plans.supports

    def in_table(backbone: str, knob: str, value: Any) -> str | None:
        if value not in spec.levels.get((backbone, knob), (value,)):
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
