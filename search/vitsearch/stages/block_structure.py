"""What may be cut of a model, how important each unit is, and the statistics for the closed-form refit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsearch.core.stage import Stage
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.job import SourceJob
from vitsearch.storage.ledger import BlockStructureRow
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 1
"""Raised by hand when block structures, scores or statistics change what they hold."""


@dataclass(frozen=True)
class BlockStructureFound:
    block_structure: dict[str, Any]
    scores: dict[str, Any]
    statistics_sha256: str

    def row(self, key: str, weights_sha256: str, resolution: str, calibration: str) -> BlockStructureRow:
        """What the ledger keeps of it, with what it was found on."""
        parts = self.block_structure, self.scores, self.statistics_sha256
        return BlockStructureRow(key, weights_sha256, resolution, calibration, *parts)


def block_structure_key(model: Mapping[str, Any], calibration: str, window_size: int | None, own: str | None) -> str:
    """The key of a block structure.

    Args:
        model: What enters keys of the unpruned model.
        calibration: The digest of the images.
        window_size: That of the plan.
        own: The digest of a structure that the user's own code gives.

    Returns:
        A SHA-256.
    """
    described: dict[str, Any] = {"schema": SCHEMA, "calibration": calibration, "window_size": window_size}
    return digest(described | ({} if own is None else {"structure": own}) | dict(model))


@dataclass(frozen=True)
class BlockStructureJob(SourceJob[BlockStructureFound]):
    """Without images (`calibration` None) all units are equally important, and there are no statistics: for what is
    untrained."""

    stage = Stage.BLOCK_STRUCTURE
    calibration: Calibration | None

    def work(self) -> BlockStructureFound:
        import torch

        from vitsearch.compress import scores
        from vitsearch.core.resolve import Scores
        from vitsearch.stages.parts.images import drawn, drawn_rows, load_data, torch_device
        from vitsearch.stages.parts.models import base_model, family_of, model_spec

        images, backbone = load_data(self.workspace), family_of(self.source, self.workspace)
        if self.calibration is None:
            structure = backbone.block_structure(
                base_model(self.source, self.workspace), model_spec(self.source, self.workspace)
            )
            return BlockStructureFound(structure.to_json(), Scores.equal(structure).to_json(), "")
        model = base_model(self.source, self.workspace).to(torch_device())
        inputs = drawn(self.workspace, self.calibration, self.source.view, torch_device())
        labels = images.train.labels[drawn_rows(images, self.calibration)]
        task = self.workspace.task.find()
        statistics = scores.collect(model, backbone, inputs, torch.tensor(labels, device=inputs.device), task)
        block_structure = backbone.block_structure(model, model_spec(self.source, self.workspace))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "statistics.safetensors"
            statistics.save(path)
            sha256 = self.workspace.store.put(path)
        return BlockStructureFound(block_structure.to_json(), statistics.scores().to_json(), sha256)
