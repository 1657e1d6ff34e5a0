"""The outputs of an unpruned model for certain images, and what its classifier reads there: made once for all plans."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.core.plan import Recipe
from vitsearch.core.stage import Stage
from vitsearch.stages.job import Images, SourceJob, Stored
from vitsearch_agent.base.canonical_json import digest

if TYPE_CHECKING:
    from torch import nn

    from vitsearch.data.arrays import Floats


@dataclass(frozen=True)
class LogitsJob(SourceJob[Stored]):
    """Writes a .npy file, float32 (images, ...)."""

    stage = Stage.LOGITS
    images: Images
    recipe: Recipe

    def key(self, model: Mapping[str, Any], fingerprint: str) -> str:
        """Give the key of the file.

        Args:
            model: What enters keys of the unpruned model.
            fingerprint: Of the data.

        Returns:
            A SHA-256.
        """
        pool = [self.recipe.images_per_epoch, self.recipe.rungs[-1], self.recipe.seed]
        described = {
            "stage": self.stage,
            "data": fingerprint,
            "images": self.images,
            "pool": pool if self.images == "train" else None,
        }
        return digest(described | dict(model))

    def work(self) -> Stored:
        import numpy as np

        from vitsearch.stages.parts.models import base_model

        outputs = self._outputs(self._reading(base_model(self.source, self.workspace)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "outputs.npy"
            np.save(path, outputs)
            return Stored(self.workspace.store.put(path), path.stat().st_size)

    def _reading(self, model: nn.Module) -> nn.Module:
        """The module whose outputs are kept."""
        return model

    def _outputs(self, model: nn.Module) -> Floats:
        from vitsearch.stages.parts.images import load_data, predict
        from vitsearch.training import fine_tune

        images = load_data(self.workspace)
        match self.images:
            case "validation":
                return predict(model, images.validation.images, self.source.view)
            case "shipped":
                split = images.validation if images.test is None else images.test
                return predict(model, split.images, self.source.view)
            case "holdout":
                rows = images.holdout
            case "learned":
                rows = images.learned
            case "train":
                rows = fine_tune.training_pool(images.learned, self.recipe)
        return predict(model, images.train.images, self.source.view, rows)


@dataclass(frozen=True)
class FeaturesJob(LogitsJob):
    """What the classifier of an unpruned model reads, on the same images: a .npy file (images, width)."""

    stage = Stage.FEATURES

    def _reading(self, model: nn.Module) -> nn.Module:
        from vitsearch.training import distillation

        return distillation.Features(model)
