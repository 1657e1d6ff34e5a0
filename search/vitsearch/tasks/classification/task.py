"""The task `classification`: one class for each image, trained by cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitsearch.core.figures import Figure
from vitsearch.core.metrics import METRICS
from vitsearch.core.pareto import wilson
from vitsearch.core.policy import POLICY
from vitsearch.tasks.base import NO_CLASS, Divergence, Judged, Labelling, Reduction, Task, TrainingTargets, Truth
from vitsearch.tasks.classification.caveats import ClassCaveats, class_caveats, class_warnings
from vitsearch.tasks.classification.confusion import Confusion

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from vitsearch.tasks.base import Floats, Labels

TOP = 5
"""`accuracy_top5` counts an image as right whose class is among so many of the largest logits."""


class Classification(Task):
    """One class for each image."""

    kind = "classification"
    labels: Labelling = "needed"
    has_reference = False
    metrics = tuple(
        METRICS[name] for name in ("accuracy", "accuracy_top5", "accuracy_balanced", "recall_min", "f1_macro")
    )
    output = "logits"
    reduction: Reduction = "argmax"
    divergence = Divergence("nats", POLICY.rung_zero.small_kl, POLICY.rung_zero.forgetting_kl)

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """Cross-entropy. With class weights, whose mean over the training images is 1, each image counts by the weight
        of its class, and the sum is divided by the number of images: torch's own mean divides by the weights of the
        batch, so that a rare class would count less in the very batches that have it."""
        import torch
        from torch.nn import functional

        assert targets.labels is not None
        if targets.class_weights is None:
            return functional.cross_entropy(outputs, targets.labels, label_smoothing=targets.smoothing)
        weights = torch.tensor(targets.class_weights, dtype=outputs.dtype, device=outputs.device)
        each = functional.cross_entropy(
            outputs, targets.labels, weights, reduction="none", label_smoothing=targets.smoothing
        )
        return each.mean()

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        from vitsearch.tasks.classification.divergence import divergence

        return divergence(outputs, reference, temperature)

    def importance(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """The cross-entropy, summed over the batch."""
        from torch.nn import functional

        assert targets.labels is not None
        return functional.cross_entropy(outputs, targets.labels, reduction="sum")

    def diverge(self, outputs: Floats, reference: Floats) -> npt.NDArray[np.float64]:
        from vitsearch.tasks.classification.divergence import kl_divergences

        return kl_divergences(reference, outputs)

    def judge(self, outputs: Floats, truth: Truth) -> Judged:
        """Logits (images, classes), or the class of each image (images,), `NO_CLASS` where there is none."""
        assert truth.labels is not None
        judged = judged_counts(Confusion.of(truth.labels, _predicted(outputs)), truth.class_names)
        if outputs.ndim == 1:
            return judged
        return replace(judged, figures={**judged.figures, "accuracy_top5": _top5(outputs, truth.labels)})

    def warnings(
        self, named: Mapping[str, Any], others: Mapping[str, Any], class_names: Sequence[str]
    ) -> Iterator[str]:
        """Classes that a model hardly finds, and an accuracy that one class explains."""

        def caveats(tallies: Mapping[str, Any]) -> dict[str, ClassCaveats]:
            counted = {name: Confusion.from_json(tally) for name, tally in tallies.items() if tally}
            return {name: class_caveats(counts, class_names) for name, counts in counted.items()}

        return class_warnings(caveats(named), caveats(others))

    def details(self, tally: Any, class_names: Sequence[str]) -> Mapping[str, Any]:
        """The counts of each class by its name, and the confusion counts."""
        classes = {
            each.name: {"n": each.n, "correct": each.correct, "low": each.low, "high": each.high}
            | {"predicted": each.predicted}
            for each in Confusion.from_json(tally).by_class(class_names)
        }
        return {"classes": classes, "confusion": tally}

    def batch_figure(self, outputs: torch.Tensor, targets: TrainingTargets, reference: torch.Tensor | None) -> float:
        assert targets.labels is not None
        labels = targets.labels if targets.labels.dim() == 1 else targets.labels.argmax(1)
        return float((outputs.argmax(1) == labels).float().mean())

    def pair(self, outputs: Floats, truth: Truth) -> npt.NDArray[np.float64]:
        assert truth.labels is not None
        right: npt.NDArray[np.float64] = (_predicted(outputs) == truth.labels).astype("float64")
        return right


CLASSIFICATION = Classification()


def judged_counts(counts: Confusion, class_names: Sequence[str]) -> Judged:
    """Make figures of confusion counts: all metrics but `accuracy_top5`."""
    predicted, note = {cell[1] for cell in counts.cells}, None
    if len(predicted) == 1 and NO_CLASS not in predicted:
        note = f"the model predicts one class only, {class_names[predicted.pop()]!r}"
    accuracy = Figure(counts.accuracy, *wilson(counts.correct, counts.n), note=note)
    return Judged({"accuracy": accuracy, **counts.figures()}, counts.to_json())


def _predicted(outputs: Floats) -> Labels:
    import numpy as np

    predicted: Labels = outputs.argmax(1) if outputs.ndim > 1 else outputs.astype(np.int64)
    return predicted


def _top5(logits: Floats, labels: Labels) -> Figure:
    import numpy as np

    images, classes = logits.shape
    if classes <= TOP:
        return Figure(None, reason=f"the data has {classes} classes, and every class is among the first {TOP}")
    first = np.argpartition(logits, classes - TOP, axis=1)[:, -TOP:]
    right = int((first == labels[:, None]).any(axis=1).sum())
    return Figure(right / images, *wilson(right, images))
