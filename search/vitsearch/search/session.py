"""What one `vitsearch run` works with."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.core.figures import Metrics
from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.pareto import loss
from vitsearch.core.policy import POLICY, SearchPolicy
from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.pipeline.jobs import Runner
from vitsearch.pipeline.progress import Progress
from vitsearch.search.goals import Goals
from vitsearch.space import SearchSpace
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

    def goals(self, baseline: Metrics) -> Goals:
        """Objectives and limits, beside the metrics of the unpruned baseline. The corner of the hypervolume is stored
        with the study when it is needed first; it moves only where the limits of today allow a lower accuracy."""
        objectives = tuple(self.space.objectives)
        limits = bounds(self.space.limits, baseline.values)
        corner = self.study.attributes.get("reference_point") or reference_values(objectives, limits, baseline.values)
        if "accuracy" in objectives:
            floor = reference_values(["accuracy"], limits, baseline.values)["accuracy"]
            corner = corner | {"accuracy": min(corner["accuracy"], floor)}
        self.study.remember("reference_point", dict(corner))
        reference = loss(objectives, corner)
        assert reference is not None
        return Goals(objectives, limits, reference, self.space.search.margin, baseline)
