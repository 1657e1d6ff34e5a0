"""What a bundle needs beside its model: its quality on the test images, which only this stage reads, and images to
verify it by."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Deployment
from vitsearch.core.record import Shipped
from vitsearch.core.spread import spread_rows
from vitsearch.core.stage import Stage
from vitsearch.errors import StageError
from vitsearch.stages.job import SourceJob, Stored
from vitsearch.storage.files import Store
from vitsearch.tasks.base import Truth
from vitsearch_agent.verify.bundle import SEGMENTATION
from vitsearch_agent.wire.results import OUTPUTS_MAX_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ShipJob(SourceJob[Shipped]):
    """Judge an exported file on every test image, in its own runtime, and choose up to `images` for its bundle.
    `source` has the starting weights of its plan; `judged_sha256` is the file that stands for one that does
    not run here."""

    stage = Stage.SHIP
    deployment: Deployment
    model_sha256: str
    judged_sha256: str | None
    batch: int
    images: int
    truth_sha256: str | None = None

    def work(self) -> Shipped:
        import numpy as np

        from vitsearch import backbones, data
        from vitsearch.export import ExportedFile, evaluate
        from vitsearch.stages.parts.images import EVALUATION_BATCH, batches, load_data, truth_of
        from vitsearch_agent.verify.preprocessing import prepare

        data_set, store = load_data(self.workspace), self.workspace.store
        name, split = ("validation", data_set.validation) if data_set.test is None else ("test", data_set.test)
        stand_in = None if self.judged_sha256 is None else store.model(self.judged_sha256)
        path, judge = evaluate.judging_job(ExportedFile(store.model(self.model_sha256), stand_in), self.deployment)
        outputs = evaluate.logits(path, batches(split.images, self.source.view), self.batch, job=judge)
        if not np.isfinite(outputs).all():
            raise StageError(
                "ship", "not_finite", f"{path.name}: NaN or infinity among the outputs for the {name} images"
            )
        task, truth = self.workspace.task.find(), truth_of(split, self.workspace, self.truth_sha256)
        judged = task.judge(outputs, truth)
        is_map = task.kind == SEGMENTATION
        readable = max(1, OUTPUTS_MAX_BYTES // _bytes_of_image(outputs, truth, is_map))
        chosen = spread_rows(len(split), min(self.images, readable))
        settings = self.source.view.settings(data_set.image_size, data_set.channels)
        images = np.ascontiguousarray(split.images[chosen])
        inputs = (
            prepare(images[at : at + EVALUATION_BATCH], settings) for at in range(0, len(images), EVALUATION_BATCH)
        )
        of_images = evaluate.logits(path, inputs, self.batch, job=judge)
        reference = None if truth.reference is None else np.ascontiguousarray(truth.reference[chosen])
        labels = None if truth.labels is None else truth.labels[chosen]
        on_images = task.judge(of_images, replace(truth, labels=labels, reference=reference))
        masks = labels if is_map else None
        stored = _stored(images, store)
        return Shipped(
            name,
            split.sha256,
            len(split),
            Metrics(judged.figures),
            judged.tally,
            stored.sha256,
            stored.size_bytes,
            Metrics(on_images.figures),
            _stored(of_images if masks is None else of_images.argmax(axis=1).astype(np.uint8), store).sha256,
            None if labels is None or labels.ndim > 1 else tuple(labels.tolist()),
            None if masks is None else _stored(np.ascontiguousarray(masks), store).sha256,
            None if reference is None else _stored(reference, store).sha256,
            {
                "weights": backbones.licence(self.source.backbone, self.source.weights),
                "data": data.licence(self.workspace.data),
            },
            self.batch,
        )


def _bytes_of_image(outputs: NDArray[Any], truth: Truth, is_map: bool) -> int:
    """Of the larger of the arrays with what is true and what was given, of which `verify` reads `OUTPUTS_MAX_BYTES`: a
    map and a mask of bytes, else outputs and a reference of float32."""
    if is_map:
        assert truth.labels is not None
        return max(math.prod(outputs.shape[2:]), math.prod(truth.labels.shape[1:]))
    import numpy as np

    arrays = (outputs,) if truth.reference is None else (outputs, truth.reference)
    return max(np.dtype(np.float32).itemsize * math.prod(array.shape[1:]) for array in arrays)


def _stored(array: NDArray[Any], store: Store) -> Stored:
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "array.npy"
        np.save(file, array)
        return Stored(store.put(file), file.stat().st_size)
