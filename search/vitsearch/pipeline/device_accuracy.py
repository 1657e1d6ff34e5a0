"""What the device itself says of the accuracy of models: other kernels and other rounding may lose what the
worker's runtime keeps. Asked for the models of the front alone, when their measuring is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from vitsearch.core.plan import Plan
from vitsearch.core.progress import Progress
from vitsearch.devices.agent_device import Device
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.ledger import AccuracyRow, ArtifactRow, Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch_evaluators.client.client import Subset

SUBSET_MAX_BYTES = 256 * 2**20
"""An agent takes files of 512 MB unless its configuration says otherwise."""

Cut = Callable[[int | None, int], Awaitable[Path]]


class DeviceAccuracy:
    """One per run. ``images`` of the split ``split`` are classified there, 0: none; ``channels`` are theirs.

    ``cut`` makes the file of so many images at a resolution, or (None) of their labels; workers do that.
    """

    def __init__(
        self,
        ledger: Ledger,
        single_flight: SingleFlight,
        device: Device,
        progress: Progress,
        wanted: tuple[int, int, str],
        cut: Cut,
    ) -> None:
        self._ledger = ledger
        self._once = single_flight
        self._device = device
        self._progress = progress
        self._images, self._channels, self._split = wanted
        self._cut = cut
        self._subsets: dict[int, Subset] = {}

    async def prepare(self, resolutions: Iterable[int]) -> None:
        """Cut the subsets while there are workers."""
        for resolution in sorted(set(resolutions)) if self._images else ():
            count = min(self._images, SUBSET_MAX_BYTES // (4 * self._channels * resolution**2))
            images, labels = await self._cut(resolution, count), await self._cut(None, count)
            self._subsets[resolution] = Subset(str(images), str(labels))

    async def judge(self, artifact: ArtifactRow, path: Path, plan: Plan) -> AccuracyRow | None:
        """None when nothing is to be judged; :class:`StageError` when the device cannot."""
        subset = self._subsets.get(plan.resolution)
        if subset is None:
            return None
        key, where = artifact.artifact_key, self._device.info.device_id

        async def make() -> tuple[AccuracyRow, StageCost]:
            with self._progress.stage("judge"):
                found = await self._device.accuracy(path, subset, plan.deployment)
            row = AccuracyRow(key, self._split, found.n, found.device_id, found.correct)
            return row, StageCost(found.seconds, {plan.deployment.runtime: found.runtime_version})

        return await self._once.get(
            f"judge:{key}:{where}", lambda: self._ledger.accuracy(key, self._split, evaluated_on=where), make
        )
