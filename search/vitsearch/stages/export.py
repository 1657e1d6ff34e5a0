"""The file that would be shipped, and what the task makes of its outputs in its own runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.core.figures import Metrics
from vitsearch.core.stage import Stage
from vitsearch.errors import StageError
from vitsearch.stages.job import ExportedGraph, FileJob
from vitsearch.storage.ledger import ArtifactRow, EvaluationRow
from vitsearch.tasks import Judged

if TYPE_CHECKING:
    from vitsearch.export import evaluate
    from vitsearch.stages.parts.exporting import Written


@dataclass(frozen=True)
class Exported:
    """The file that would be shipped, in the store, and what the task makes of its outputs for the `n` validation
    images in its own runtime. `shares` are those of its MACs that the runtime computes in each precision
    (`vitsearch.export.precision_shares`). `cosine` is the mean cosine of its logits to the network's own in fp32, where
    these label the validation images."""

    graph: ExportedGraph
    judged: Judged
    n: int
    shares: dict[str, float] = field(default_factory=dict)
    cosine: float | None = None

    def detail(self) -> dict[str, Any]:
        """What the ledger keeps with the file."""
        return self.graph.detail() | {"shares": self.shares, "cosine": self.cosine}


@dataclass(frozen=True)
class ExportJob(FileJob[Exported]):
    """`checkpoint_sha256` None: the closed-form weights (the unpruned base when nothing is cut).

    The accuracy is that of runs of `batch` images, as the device measures the file: activations that are quantized
    at run time share one scale in a run.
    """

    stage = Stage.EXPORT
    checkpoint_sha256: str | None
    batch: int = 1
    truth_sha256: str | None = None

    def row(self, exported: Exported, start: Mapping[str, Any]) -> ArtifactRow:
        """What the ledger keeps of the file; `start` says what the model started from."""
        graph, where = exported.graph, self.workspace.store.address
        detail = exported.detail() | dict(start)
        return ArtifactRow(self.artifact_key, "model", graph.sha256, graph.size_bytes, where, detail)

    def evaluation_row(self, exported: Exported, split: str) -> EvaluationRow:
        """What it keeps of its evaluation on the images of `split`."""
        judged, figures = exported.judged, Metrics(exported.judged.figures).to_json()
        return EvaluationRow(self.artifact_key, split, exported.n, "worker", self.batch, figures, judged.tally)

    def work(self) -> Exported:
        import numpy as np

        from vitsearch.compress import macs
        from vitsearch.compress.quantization import fake_quant
        from vitsearch.export import precision_shares
        from vitsearch.stages.parts.exporting import deployed, export, stored_graph
        from vitsearch.stages.parts.images import batches, blank, load_data, own_logits, validation_truth
        from vitsearch.stages.parts.models import compressed
        from vitsearch.stages.parts.pseudo_labels import mean_cosine

        images, source = load_data(self.workspace), self.spec.source
        model = deployed(compressed(self.spec, self.workspace, self.checkpoint_sha256), self)
        with fake_quant.unrounded(model):
            macs_m, params_m = macs.count(model, blank(source.resolution, self.workspace))
        with tempfile.TemporaryDirectory() as folder:
            written = export(model, self, Path(folder))
            opened = self._opened(written)
            outputs = opened.logits(batches(images.validation.images, source.view))
            if not np.isfinite(outputs).all():
                raise StageError(
                    "export",
                    "not_finite",
                    f"{written.file.path.name}: NaN or infinity among the outputs for the validation images",
                )
            judged = self.workspace.task.find().judge(outputs, validation_truth(self.workspace, self.truth_sha256))
            judged.refuse_not_finite("export")
            graph = stored_graph(self.workspace.store, written, macs_m, params_m)
            if written.file.judged is not None:
                graph = replace(graph, judged_sha256=self.workspace.store.put_model(written.file.judged).sha256)
            kept, own = precision_shares.by_precision(written.file, self.deployment, opened), own_logits(self.workspace)
            cosine = None if own is None else mean_cosine(outputs, own)
            return Exported(graph, judged, len(outputs), kept, cosine)

    def _opened(self, written: Written) -> evaluate.OpenFile:
        """The file in the batch in which it is judged."""
        from vitsearch.export import evaluate

        batch = self.deployment.batch or self.batch
        if written.opened.batch_size == batch:
            return written.opened
        path, judge = evaluate.judging_job(written.file, self.deployment)
        return evaluate.open_file(path, batch, job=judge)
