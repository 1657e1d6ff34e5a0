"""The file of a plan with its starting weights, which is enough to measure its cost."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vitsearch.core.stage import Stage
from vitsearch.stages.job import ExportedGraph, FileJob
from vitsearch.storage.ledger import ArtifactRow


@dataclass(frozen=True)
class ScreenJob(FileJob[ExportedGraph]):
    stage = Stage.SCREEN

    def row(self, graph: ExportedGraph) -> ArtifactRow:
        """What the ledger keeps of the file, which is deleted once it is measured."""
        where = self.workspace.scratch.address
        return ArtifactRow(self.artifact_key, self.stage, graph.sha256, graph.size_bytes, where, graph.detail())

    def work(self) -> ExportedGraph:
        from vitsearch.compress import macs
        from vitsearch.stages.parts.exporting import deployed, export, stored_graph
        from vitsearch.stages.parts.images import blank
        from vitsearch.stages.parts.models import shaped

        model = deployed(shaped(self.spec, self.workspace), self)
        counts = macs.count(model, blank(self.spec.source.resolution, self.workspace))
        with tempfile.TemporaryDirectory() as folder:
            return stored_graph(self.workspace.scratch, export(model, self, Path(folder)), *counts)
