"""The task `embedding`: vectors whose cosine says how alike two images are, trained on those of a reference model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitsearch.core.figures import Figure
from vitsearch.core.metrics import METRICS
from vitsearch.tasks.base import Divergence, Judged, Labelling, Task, TrainingTargets, Truth, mean_figure, share_figure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from vitsearch.tasks.base import Floats

NEIGHBOURS = 10
"""Nearest images that `neighbours` compares and that vote for `knn_accuracy`."""


class Embedding(Task):
    """Vectors without a classifier. Likeness is always to one model of the study, its reference: a model of another
    backbone gets a linear layer to the width of the reference, which ships with it."""

    kind = "embedding"
    labels: Labelling = "used"
    has_reference = True
    metrics = tuple(METRICS[name] for name in ("cosine", "neighbours", "knn_accuracy"))
    output = "embedding"
    divergence = Divergence("1 - cosine", 0.001, 0.05)

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> None:
        return None

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        """One minus the cosine, averaged over the batch; scaled so that the usual rates of learning fit."""
        from torch.nn import functional

        cosine = functional.cosine_similarity(outputs.float(), reference.float(), dim=1)
        return LOSS_SCALE * (1.0 - cosine).mean()

    def importance(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        from torch.nn import functional

        return super().importance(functional.normalize(outputs.float(), dim=1), targets)

    def diverge(self, outputs: Floats, reference: Floats) -> npt.NDArray[np.float64]:
        from vitsearch_agent.verify.metrics import cosines

        divergences: npt.NDArray[np.float64] = 1.0 - cosines(outputs, reference)
        return divergences

    def judge(self, outputs: Floats, truth: Truth) -> Judged:
        from vitsearch_agent.verify.metrics import cosines, knn_correct, neighbour_agreement

        assert truth.reference is not None
        figures = {
            "cosine": mean_figure(cosines(outputs, truth.reference)),
            "neighbours": mean_figure(neighbour_agreement(outputs, truth.reference, NEIGHBOURS)),
        }
        if truth.labels is None:
            figures["knn_accuracy"] = Figure(None, reason="the images have no labels")
        else:
            figures["knn_accuracy"] = share_figure(knn_correct(outputs, truth.labels, NEIGHBOURS))
        return Judged(figures)

    def batch_figure(self, outputs: torch.Tensor, targets: TrainingTargets, reference: torch.Tensor | None) -> float:
        assert reference is not None
        return 1.0 - float(self.distance(outputs, reference, 1.0)) / LOSS_SCALE

    def pair(self, outputs: Floats, truth: Truth) -> npt.NDArray[np.float64]:
        from vitsearch_agent.verify.metrics import cosines

        assert truth.reference is not None
        likeness: npt.NDArray[np.float64] = cosines(outputs, truth.reference)
        return likeness


LOSS_SCALE = 10.0
"""A cosine loss is at most 2, and its gradients are small beside those of a cross-entropy."""
EMBEDDING = Embedding()
