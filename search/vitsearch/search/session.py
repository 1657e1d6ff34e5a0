"""What one `vitsearch run` works with."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.core.figures import Metrics
from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.metrics import is_quality, split
from vitsearch.core.pareto import loss
from vitsearch.core.policy import POLICY, SearchPolicy
from vitsearch.core.run_sizes import RunSizes
from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.pipeline.progress import Progress
from vitsearch.search.earlier_studies import priors_of
from vitsearch.search.goals import Goals
from vitsearch.space import SearchSpace
from vitsearch.stages import Runner
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study


@dataclass(frozen=True)
class Session:
    """What was opened for one run. `slots` plans are trained at the same time."""

    space: SearchSpace
    study: Study
    ledger: Ledger
    runner: Runner
    device: DeviceGroup
    driver: DriverId
    slots: int
    progress: Progress
    policy: SearchPolicy = POLICY

    @property
    def search_policy(self) -> SearchPolicy:
        """The policy, with what the space file says of it."""
        return self.policy.searching(self.space.search.least_gain)

    def goals(self, baseline: Metrics) -> Goals:
        """Objectives and limits, beside the metrics of the unpruned baseline. The corner of the hypervolume is stored
        with the study when it is needed first; it moves only where the limits of today allow a worse quality, and
        where the space has a larger batch or more threads than before."""
        objectives = tuple(self.space.objectives)
        limits = bounds(self.space.limits, baseline.values)
        today = reference_values(objectives, limits, baseline.values, self.space.run_sizes)
        corner = _moved(self.study.attributes.get("reference_point") or today, today, self.space.run_sizes)
        for name in filter(is_quality, objectives):
            corner[name] = max(corner[name], today[name], key=split(name)[0].error)
        self.study.remember("reference_point", dict(corner))
        reference = loss(objectives, corner)
        assert reference is not None
        space, images = self.space, self.space.recipe(self.space.baseline.backbone).images
        measured = self.study.baseline()
        ran = None if measured is None else measured.plan.deployment
        priors = priors_of(self.study, space)
        return Goals(objectives, limits, reference, space.search.margin, baseline, space.purpose, images, ran, priors)


def _moved(stored: dict[str, float], today: dict[str, float], sizes: RunSizes) -> dict[str, float]:
    """The stored corner, but that of today for an objective in which it leaves larger runs no room: what the baseline
    costs now alone moves nothing."""
    corner, room = dict(stored), POLICY.reference_point.cost_factor
    for name in today:
        metric = split(name)[0]
        if sizes.worsening(metric.name) > 1.0:
            is_least = metric.direction == "minimize"
            beyond = today[name] / stored[name] if is_least else stored[name] / today[name]
            corner[name] = today[name] if beyond > room else stored[name]
    return corner
