"""A task of one's own: some mistakes cost more than others, and a model is judged by what its predictions cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitsearch.core.metrics import quality
from vitsearch.tasks import Divergence, Judged, Task, TrainingTargets, Truth, mean_figure

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

GROUPS = np.array([0, 1, 0, 0, 0, 2, 0, 2, 3, 2])
"""Of the classes of Fashion-MNIST: upper body, trousers, shoes, bags."""
COSTS = np.where(GROUPS[:, None] == GROUPS, 0.2, 1.0) * (1.0 - np.eye(len(GROUPS)))
"""What it costs to take an image of a class (row) for another one (column)."""


class Costs(Task):
    """One class for each image, by the mean cost of what is predicted."""

    kind = "costs"
    labels = "needed"
    metrics = (quality("mean_cost", worst=0.5, best=0.0),)
    output = "logits"
    divergence = Divergence("nats", small=0.005, forgotten=0.2)

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """The cross-entropy, and the cost that is expected of the probabilities."""
        import torch
        from torch.nn import functional

        assert targets.labels is not None
        table = torch.tensor(COSTS, dtype=outputs.dtype, device=outputs.device)
        mixed = targets.labels.is_floating_point()  # where the space file mixes images
        costs = targets.labels.to(table.dtype) @ table if mixed else table[targets.labels]
        expected = (outputs.softmax(1) * costs).sum(1).mean()
        return functional.cross_entropy(outputs, targets.labels, label_smoothing=targets.smoothing) + expected

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        """The Kullback-Leibler divergence from the teacher's probabilities."""
        from torch.nn import functional

        own, teacher = ((logits / temperature).log_softmax(1) for logits in (outputs, reference))
        return temperature**2 * functional.kl_div(own, teacher, reduction="batchmean", log_target=True)

    def diverge(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same for each image, in nats."""
        own, base = (values.astype(np.float64) for values in (outputs, reference))
        own, base = (values - np.logaddexp.reduce(values, axis=1, keepdims=True) for values in (own, base))
        divergences: NDArray[np.float64] = (np.exp(base) * (base - own)).sum(axis=1)
        return divergences

    def judge(self, outputs: NDArray[np.float32], truth: Truth) -> Judged:
        """The mean of what each image costs."""
        return Judged({"mean_cost": mean_figure(COSTS[truth.labels, outputs.argmax(1)])})
