"""The accuracy of a model on the device itself: other kernels and other rounding may lose what the worker's
runtime keeps. Asked for the models of the front alone, after they were measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.confusion import NO_CLASS, Confusion
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices.agent_device import Device, DeviceOutputs
from vitsearch.errors import StageError
from vitsearch.pipeline.config import StageConfig
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.measure import ModelFile
from vitsearch.pipeline.shared_stages import SharedStages
from vitsearch.storage.ledger import AccuracyRow, ArtifactRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch_agent.wire.protocol import REDUCTIONS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SUBSET_MAX_BYTES = 256 * 2**20
"""An agent takes files of up to 512 MB unless its configuration sets another limit."""


class DeviceAccuracy:
    """Sends `config.device_images` validation images to the device; 0 turns this off. One per run."""

    def __init__(self, config: StageConfig, context: StageContext, shared: SharedStages, device: Device) -> None:
        self._config = config
        self._context = context
        self._shared = shared
        self._device = device
        self._subsets: dict[ModelView, tuple[Path, Path]] = {}

    async def prepare(self, views: Iterable[ModelView]) -> None:
        """Make the images that models see while there are workers."""
        wanted, channels = self._config.device_images, self._config.data.channels
        for view in dict.fromkeys(views) if wanted else ():
            count = min(wanted, SUBSET_MAX_BYTES // (4 * channels * view.resolution**2))
            self._subsets[view] = await self._shared.subset(view, count), await self._shared.subset(None, count)

    async def ask(self, artifact: ArtifactRow, file: ModelFile, resolution: int) -> AccuracyRow | None:
        """None when there are no images to classify; `StageError` when the device cannot classify them."""
        subset = self._subsets.get(ModelView(resolution, artifact.preprocessing))
        if subset is None:
            return None
        images, labels = subset
        key, where, split = artifact.artifact_key, self._device.info.device_id, self._config.data.fingerprint

        async def make() -> tuple[AccuracyRow, StageCost]:
            path = await file.path()
            with self._context.stage(Stage.DEVICE_ACCURACY):
                reduction = reduction_for(self._config.data.classes)
                outputs = await self._device.outputs(path, images, file.deployment, reduction)
                counts = confusion_of(outputs, labels)
            answer = outputs.result
            row = AccuracyRow(key, split, counts.n, answer.device_id, counts.correct, answer.batch, counts.to_json())
            versions = {file.deployment.runtime: answer.runtime_version}
            cost = StageCost.of_device(self._device.name, answer.cpu_seconds, answer.seconds, versions)
            self._context.ledger.costs.note(Stage.DEVICE_ACCURACY, cost)
            return row, cost

        return await self._context.single_flight.get(
            StageKey(Stage.DEVICE_ACCURACY, f"{key}:{where}"),
            lambda: self._context.ledger.accuracy(key, split, evaluated_on=where),
            make,
        )


def reduction_for(classes: int) -> str:
    """The reduction whose type has room for so many classes, which is the smaller of both."""
    room = REDUCTIONS["argmax_uint8"].classes_max or 0
    return "argmax_uint8" if classes <= room else "argmax_uint16"


def confusion_of(outputs: DeviceOutputs, labels: Path) -> Confusion:
    """Count the classes that a device gives the images with these labels. Raises `StageError` for other outputs."""
    import numpy as np  # here, as the command line starts without it

    expected = np.load(labels)
    if outputs.values.shape != expected.shape:
        shapes = f"outputs of shape {list(outputs.values.shape)} for {len(expected)} images"
        raise StageError(Stage.DEVICE_ACCURACY, "incompatible_artifact", f"{shapes}: expected one class for each")
    predicted: npt.NDArray[np.int64] = outputs.values.astype(np.int64)
    predicted[predicted == REDUCTIONS[outputs.result.reduction].reserved] = NO_CLASS
    return Confusion.of(expected, predicted)
