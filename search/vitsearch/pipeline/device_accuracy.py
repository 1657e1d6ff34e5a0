"""The quality of a model on the device itself: other kernels and other rounding may lose what the worker's
runtime keeps. Asked for the models of the front alone, after they were measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.spread import spread_rows
from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices.agent_device import Device, DeviceOutputs
from vitsearch.errors import StageError
from vitsearch.pipeline.config import StageConfig
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.measure import ModelFile
from vitsearch.pipeline.shared_stages import SharedStages
from vitsearch.storage.ledger import ArtifactRow, EvaluationRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.tasks import Truth
from vitsearch.tasks.base import NO_CLASS
from vitsearch_agent.wire.protocol import REDUCTIONS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SUBSET_MAX_BYTES = 256 * 2**20
"""An agent takes files of up to 512 MB unless its configuration sets another limit."""


@dataclass(frozen=True)
class Subset:
    """Some validation images (`spread_rows`) as a model sees them, and what outputs for them are judged by: the file of
    their labels, None for data without, and that of the outputs of the study's reference for all validation images,
    None for a task without one."""

    images: Path
    labels: Path | None
    reference: Path | None

    @property
    def n(self) -> int:
        """The images: as many as were asked for, or all there are."""
        import numpy as np  # here, as the command line starts without it

        return len(np.load(self.images, mmap_mode="r"))

    def truth(self, n: int, class_names: Sequence[str]) -> Truth:
        """What `n` outputs are judged by. Raises `StageError` where these are not the outputs of all images."""
        import numpy as np  # here, as the command line starts without it

        labels = None if self.labels is None else np.load(self.labels)
        if labels is not None and len(labels) != n:
            wrong = f"outputs for {n} images instead of {len(labels)}"
            raise StageError(Stage.DEVICE_ACCURACY, "incompatible_artifact", wrong)
        if self.reference is None:
            return Truth(labels, class_names, None)
        outputs = np.load(self.reference, mmap_mode="r")
        return Truth(labels, class_names, outputs[spread_rows(len(outputs), n)])


class DeviceAccuracy:
    """Sends `config.device_images` validation images to a device; 0 turns this off. One per run and device."""

    def __init__(self, config: StageConfig, context: StageContext, shared: SharedStages, device: Device) -> None:
        self._config = config
        self._context = context
        self._shared = shared
        self._device = device
        self._subsets: dict[ModelView, Subset] = {}

    async def prepare(self, views: Iterable[ModelView]) -> None:
        """Make the images that models see while there are workers."""
        wanted, channels = self._config.device_images.get(self._device.name, 0), self._config.data.channels
        for view in dict.fromkeys(views) if wanted else ():
            count = min(wanted, SUBSET_MAX_BYTES // (4 * channels * view.resolution.pixels))
            labels = await self._shared.subset(None, count) if self._config.is_labelled else None
            reference = await self._shared.truth_file("validation")
            self._subsets[view] = Subset(await self._shared.subset(view, count), labels, reference)

    async def ask(self, artifact: ArtifactRow, file: ModelFile, resolution: ImageSize) -> EvaluationRow | None:
        """None when there are no images to judge by; `StageError` when the device cannot run them. What is stored of at
        least as many images counts, in whichever environment of the device it was found."""
        subset = self._subsets.get(ModelView(resolution, artifact.preprocessing))
        if subset is None:
            return None
        key, where, split = artifact.artifact_key, self._device.info.device_id, self._config.judged_by
        wanted = subset.n

        def find() -> EvaluationRow | None:
            stored = self._context.ledger.evaluation(key, split, evaluated_on=where)
            return None if stored is None or stored.n < wanted else stored

        async def make() -> tuple[EvaluationRow, StageCost]:
            path = await file.path()
            with self._context.stage(Stage.DEVICE_ACCURACY):
                outputs = await self._device.outputs(path, subset.images, file.deployment, self._reduction)
                truth = subset.truth(len(outputs.values), self._config.class_names)
                judged = self._config.task.judge(values_of(outputs), truth)
                judged.refuse_not_finite(Stage.DEVICE_ACCURACY)
            answer = outputs.result
            figures = Metrics(judged.figures).to_json()
            row = EvaluationRow(key, split, answer.n, answer.device_id, answer.batch, figures, judged.tally)
            versions = {file.deployment.runtime: answer.runtime_version}
            cost = StageCost.of_device(self._device.name, answer.cpu_seconds, answer.seconds, versions)
            self._context.ledger.costs.note(Stage.DEVICE_ACCURACY, cost)
            return row, cost

        return await self._context.single_flight.get(
            StageKey(Stage.DEVICE_ACCURACY, f"{key}:{where}:{wanted}"), find, make
        )

    @property
    def _reduction(self) -> str:
        if self._config.task.reduction == "none":
            return "none"
        return reduction_for(self._config.data.classes)


def reduction_for(classes: int) -> str:
    """The reduction whose type has room for so many classes, which is the smaller of both."""
    room = REDUCTIONS["argmax_uint8"].classes_max or 0
    return "argmax_uint8" if classes <= room else "argmax_uint16"


def values_of(outputs: DeviceOutputs) -> npt.NDArray[np.float32]:
    """The outputs as a task judges them: of a reduced class `NO_CLASS` where there was none. Raises `StageError` for
    outputs that are not finite and were not reduced."""
    import numpy as np  # here, as the command line starts without it

    reserved = REDUCTIONS[outputs.result.reduction].reserved
    if reserved is None:
        n = len(outputs.values)
        seen = n - int(np.isfinite(outputs.values.reshape(n, -1)).all(axis=1).sum())
        if wrong := max(seen, outputs.result.not_finite):
            message = f"NaN or infinity among the outputs for {wrong} of {n} images"
            raise StageError(Stage.DEVICE_ACCURACY, "not_finite", message)
        return outputs.values
    classes = outputs.values.astype(np.float32)
    classes[outputs.values == reserved] = NO_CLASS
    return classes
