"""What the backbones of a space cost unpruned, and how long it takes to screen them: to look at before a run, above all
where a glob names many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Plan
from vitsearch.core.stage import Stage
from vitsearch.search.check.stage_seconds import SCREENING, stage_seconds, wall_seconds
from vitsearch.search.resources import trainers_here
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.suggest import FirstChoices

if TYPE_CHECKING:
    from vitsearch.workers.space_costs import Counts


@dataclass(frozen=True)
class BackboneCosts:
    """A backbone, unpruned, at the resolution of its base."""

    backbone: str
    """Its name."""
    resolutions: tuple[ImageSize, ...]
    """Sizes of images: those of the space that it supports. The side of a square, or height and width."""
    base_resolution: ImageSize
    """That at which its unpruned model is trained and measured."""
    macs_m: float
    """Million MACs there."""
    params_m: float
    """Million parameters."""
    files: int
    """Files that are made of it and measured: one for each runtime, provider and precision, for each form of a file
    that is tried, and for each further batch."""
    screening_s: float
    """Seconds of workers and the device to make these files and measure them."""


@dataclass(frozen=True)
class Screening:
    """The screening of all unpruned models, before anything is pruned."""

    backbones: tuple[BackboneCosts, ...]
    """The backbones, in the order of the file."""
    wall_s: float
    """Seconds to make and measure all files, without training."""
    basis: str
    """What this is based on."""

    @property
    def files(self) -> int:
        """All files that are measured."""
        return sum(backbone.files for backbone in self.backbones)


def screening_of(space: SearchSpace, plans: PlanSpace, counts_of: Callable[[Plan], Counts]) -> Screening:
    """What the unpruned models of a space cost.

    Args:
        space: The space.
        plans: Its plans.
        counts_of: Counts parameters and MACs of a plan.

    Returns:
        Every backbone, and the time that all of them take.
    """
    seconds, basis = stage_seconds(space)
    backbones, workers_s, device_s = [], 0.0, 0.0
    for backbone in plans.backbones():
        files, runs = plans.count_leaders(backbone)
        tried = plans.count_tried(backbone)
        worker_s = files * seconds[Stage.EXPORT] + tried * seconds[Stage.SCREEN]
        measuring_s = (runs + tried) * seconds[SCREENING]
        workers_s, device_s = workers_s + worker_s, device_s + measuring_s
        size = plans.base_resolution(backbone)
        counts = counts_of(unpruned_plan(plans, backbone, size))
        backbones.append(
            BackboneCosts(
                backbone,
                plans.resolutions(backbone),
                size,
                counts.macs_m,
                counts.params_m,
                files + tried,
                worker_s + measuring_s,
            )
        )
    return Screening(tuple(backbones), wall_seconds(workers_s / trainers_here(space), device_s), basis)


def unpruned_plan(plans: PlanSpace, backbone: str, resolution: ImageSize) -> Plan:
    """The unpruned plan of a backbone, in the first deployment of the space."""
    return plans.plan(FirstChoices({"backbone": backbone}, resolution)).unpruned()


def same_model(plans: Iterable[Plan], plan: Plan) -> Plan | None:
    """The first of `plans` that is the unpruned model of `plan`, in whatever deployment."""
    shape = plan.backbone, plan.resolution, plan.window_size, plan.compression
    return next(
        (it for it in plans if (it.backbone, it.resolution, it.window_size, it.compression) == shape),
        None,
    )
