"""The task `segmentation`: a class for each pixel of a map a quarter as high and wide as the input.

Labels are masks, uint8 (images, height, width) with the index of a class or `IGNORED`. They may be larger than the map:
a pixel of the map learns the class of the nearest pixel of the mask, and a model is judged on every pixel of the mask
(`vitsearch_agent.verify.segmentation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitsearch.core.figures import Figure
from vitsearch.core.metrics import METRICS
from vitsearch.core.policy import POLICY
from vitsearch.tasks.base import Divergence, Judged, Labelling, Reduction, Task, TrainingTargets, Truth
from vitsearch.tasks.segmentation.pictures import packed, pictures_of, pictures_of_images, sample_rows, unpacked
from vitsearch_agent.verify.segmentation import IGNORED, Overlaps

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from vitsearch.tasks.base import Floats, Labels
    from vitsearch_agent.verify.metrics import Estimate

MISSED = 0.5
"""A class is missed if its intersection over union is below this share of the mean."""
NAMED = 3
"""Missed classes that a sentence names; the others are counted."""


class Segmentation(Task):
    """A class for each pixel. Outputs are logits (images, classes, height, width), or what `argmax` leaves of them."""

    kind = "segmentation"
    labels: Labelling = "masks"
    metrics = tuple(METRICS[name] for name in ("mean_iou", "iou_min", "pixel_accuracy"))
    output = "logits"
    gives_map = True
    reduction: Reduction = "argmax"
    divergence = Divergence("nats", POLICY.rung_zero.small_kl, POLICY.rung_zero.forgetting_kl)

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """Cross-entropy, averaged over the pixels that are not ignored; 0 where all are."""
        return self._cross_entropy(outputs, targets) / self._counted(outputs, targets).sum().clamp(min=1)

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        """`T^2 KL(teacher || student)` in nats, averaged over the pixels of all images. The map of a teacher at another
        resolution is resized."""
        from vitsearch.tasks.classification.divergence import divergence

        return divergence(_pixels(outputs), _pixels(_as_large(reference, outputs)), temperature)

    def importance(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """The cross-entropy, summed over the pixels of the batch and divided by those of an image."""
        return self._cross_entropy(outputs, targets) / outputs.shape[2:].numel()

    def diverge(self, outputs: Floats, reference: Floats) -> npt.NDArray[np.float64]:
        """The mean of `KL(softmax(reference) || softmax(outputs))` over the pixels of each image, in nats. The map of a
        reference at another resolution is resized."""
        import numpy as np
        import torch

        from vitsearch.tasks.classification.divergence import kl_divergences

        def of_image(image: Floats, given: Floats) -> np.float64:
            other = _as_large(torch.from_numpy(given[None]), torch.from_numpy(image[None]))[0].numpy()
            rows = (each.reshape(each.shape[0], -1).T for each in (other, image))
            return np.float64(kl_divergences(*rows).mean())

        return np.array([of_image(*pair) for pair in zip(outputs, reference, strict=True)])

    def judge(self, outputs: Floats, truth: Truth) -> Judged:
        """Logits, or the class of each pixel (images, height, width)."""
        import numpy as np

        from vitsearch_agent.verify import segmentation

        assert truth.labels is not None
        maps = outputs.argmax(1) if outputs.ndim == 4 else outputs
        counted = segmentation.overlaps(maps, truth.labels, len(truth.class_names))
        if not counted.true.any():
            reason = "no mask has a pixel that is not ignored"
            return Judged({metric.name: Figure(None, reason=reason) for metric in self.metrics})
        estimates = {
            "mean_iou": segmentation.mean_iou(counted),
            "iou_min": segmentation.least_iou(counted),
            "pixel_accuracy": segmentation.pixel_accuracy(counted),
        }
        low, high = segmentation.class_intervals(counted)
        ious = segmentation.class_ious(counted)
        pixels = counted.true.sum(axis=0)
        tally = [
            None if value != value else [round(float(each), 6) for each in (value, *ends)] + [int(n)]
            for value, *ends, n in zip(ious, low, high, pixels, strict=True)
        ]
        shown = packed(maps[sample_rows(len(maps))].astype(np.uint8))
        figures = {name: _figure(estimate) for name, estimate in estimates.items()}
        figures["mean_iou"] = replace(figures["mean_iou"], note=_never_given(counted, truth.class_names))
        return Judged(figures, {"classes": tally} | shown)

    def warnings(
        self, named: Mapping[str, Any], others: Mapping[str, Any], class_names: Sequence[str]
    ) -> Iterator[str]:
        """Classes that a model hardly finds."""
        for subject, tally in named.items():
            ious = {name: row[0] for name, row in zip(class_names, _rows(tally), strict=False) if row is not None}
            mean = sum(ious.values()) / max(len(ious), 1)
            missed = sorted((name for name in ious if ious[name] < MISSED * mean), key=ious.__getitem__)
            if missed:
                shown = [f"{name!r} ({ious[name]:.2f})" for name in missed[:NAMED]]
                more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
                yield (
                    f"{subject} hardly finds {', '.join(shown)}{more}: an intersection over union of less than half of "
                    f"the mean, {mean:.2f}"
                )

    def details(self, tally: Any, class_names: Sequence[str]) -> Mapping[str, Any]:
        """The intersection over union of each class by its name, with the pixels of its masks."""
        keys = ("iou", "low", "high", "pixels")
        rows = zip(class_names, _rows(tally), strict=False)
        return {"classes": {name: dict(zip(keys, row, strict=True)) for name, row in rows if row is not None}}

    def samples(self, images: npt.NDArray[np.uint8], labels: Labels) -> Sequence[tuple[bytes, bytes]]:
        """Each image beside its mask."""
        rows = sample_rows(len(images))
        return list(zip(pictures_of_images(images[rows]), pictures_of(labels[rows].astype("u1")), strict=True))

    def pictures(self, tally: Any) -> Sequence[bytes]:
        """The maps of a model, in colours."""
        return pictures_of(unpacked(tally)) if tally else ()

    def batch_figure(self, outputs: torch.Tensor, targets: TrainingTargets, reference: torch.Tensor | None) -> float:
        """The mean intersection over union of the positions of the map, over the classes of the batch."""
        import torch

        counted = self._counted(outputs, targets)
        given, true = outputs.argmax(1)[counted], self._labels(outputs, targets)[counted]
        classes = outputs.shape[1]
        both, all_given, all_true = (
            torch.bincount(values, minlength=classes) for values in (true[given == true], given, true)
        )
        union = all_given + all_true - both
        return float((both / union)[union > 0].mean()) if counted.any() else float("nan")

    def pair(self, outputs: Floats, truth: Truth) -> npt.NDArray[np.float64]:
        """The mean intersection over union of each image alone."""
        from vitsearch_agent.verify import segmentation

        assert truth.labels is not None
        maps = outputs.argmax(1) if outputs.ndim == 4 else outputs
        each: npt.NDArray[np.float64] = segmentation.image_ious(
            segmentation.overlaps(maps, truth.labels, len(truth.class_names))
        )
        return each

    def _cross_entropy(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """Summed over pixels, each by the weight of its class."""
        import torch
        from torch.nn import functional

        weights = targets.class_weights
        return functional.cross_entropy(
            outputs,
            self._labels(outputs, targets),
            None if weights is None else torch.tensor(weights, dtype=outputs.dtype, device=outputs.device),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=targets.smoothing,
        )

    def _labels(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """The class of each pixel of the map, int64 (images, height, width)."""
        import torch

        from vitsearch_agent.verify.segmentation import nearest

        assert targets.labels is not None
        rows, columns = (
            torch.from_numpy(nearest(size, wanted)).to(outputs.device)
            for size, wanted in zip(targets.labels.shape[1:], outputs.shape[2:], strict=True)
        )
        return targets.labels[:, rows][:, :, columns].long()

    def _counted(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        return self._labels(outputs, targets) != IGNORED


def _rows(tally: Any) -> Sequence[Any]:
    """The figures of the classes in a tally, which is None for a model that was not judged."""
    return tally["classes"] if tally else ()


def _pixels(outputs: torch.Tensor) -> torch.Tensor:
    """(images, classes, height, width) as (pixels, classes)."""
    return outputs.flatten(2).transpose(1, 2).flatten(0, 1)


def _as_large(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Maps (images, classes, height, width), resized to those of `wanted` where they are not as large."""
    from torch.nn import functional

    if outputs.shape[2:] == wanted.shape[2:]:
        return outputs
    return functional.interpolate(outputs, size=wanted.shape[2:], mode="bilinear", align_corners=False)


def _figure(estimate: Estimate) -> Figure:
    return Figure(estimate.value, estimate.low, estimate.high)


def _never_given(counted: Overlaps, class_names: Sequence[str]) -> str | None:
    """Which classes a model gives no pixel although masks have them: its mean may be that of a constant answer."""
    given, true = counted.predicted.sum(axis=0), counted.true.sum(axis=0)
    missed = [name for name, here, there in zip(class_names, given, true, strict=True) if there and not here]
    if not missed:
        return None
    more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
    return f"the model gives no pixel the class {', '.join(map(repr, missed[:NAMED]))}{more}"


SEGMENTATION = Segmentation()
