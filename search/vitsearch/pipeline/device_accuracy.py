"""The accuracy of a model on the device itself: other kernels and other rounding may lose what the worker's
runtime keeps. Asked for the models of the front alone, after they were measured."""

from __future__ import annotations

from collections.abc import Iterable

from vitsearch.core.figures import Metrics
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices.agent_device import Device
from vitsearch.pipeline.config import StageConfig
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.measure import ModelFile
from vitsearch.pipeline.shared_stages import SharedStages
from vitsearch.storage.ledger import ArtifactRow, EvaluationRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts
from vitsearch_agent.client.client import Subset

SUBSET_MAX_BYTES = 256 * 2**20
"""An agent takes files of up to 512 MB unless its configuration sets another limit."""


class DeviceAccuracy:
    """Sends `config.device_images` validation images to the device; 0 turns this off. One per run."""

    def __init__(self, config: StageConfig, context: StageContext, shared: SharedStages, device: Device) -> None:
        self._config = config
        self._context = context
        self._shared = shared
        self._device = device
        self._subsets: dict[ModelView, Subset] = {}

    async def prepare(self, views: Iterable[ModelView]) -> None:
        """Make the images that models see while there are workers."""
        wanted, channels = self._config.device_images, self._config.data.channels
        for view in dict.fromkeys(views) if wanted else ():
            count = min(wanted, SUBSET_MAX_BYTES // (4 * channels * view.resolution**2))
            images, labels = await self._shared.subset(view, count), await self._shared.subset(None, count)
            self._subsets[view] = Subset(str(images), str(labels))

    async def ask(self, artifact: ArtifactRow, file: ModelFile, resolution: int) -> EvaluationRow | None:
        """None when there is no subset to classify; `StageError` when the device cannot classify it."""
        subset = self._subsets.get(ModelView(resolution, artifact.preprocessing))
        if subset is None:
            return None
        key, where, split = artifact.artifact_key, self._device.info.device_id, self._config.judged_by

        async def make() -> tuple[EvaluationRow, StageCost]:
            path = await file.path()
            with self._context.stage(Stage.DEVICE_ACCURACY):
                answer = await self._device.accuracy(path, subset, file.deployment)
            judged = judged_counts(Confusion.from_json(answer.confusion), self._config.class_names)
            figures = Metrics(judged.figures).to_json()
            row = EvaluationRow(key, split, answer.n, answer.device_id, answer.batch, figures, judged.tally)
            versions = {file.deployment.runtime: answer.runtime_version}
            cost = StageCost.of_device(self._device.name, answer.cpu_seconds, answer.seconds, versions)
            self._context.ledger.costs.note(Stage.DEVICE_ACCURACY, cost)
            return row, cost

        return await self._context.single_flight.get(
            StageKey(Stage.DEVICE_ACCURACY, f"{key}:{where}"),
            lambda: self._context.ledger.evaluation(key, split, evaluated_on=where),
            make,
        )
