"""Boxes of garments: a task whose labels are masks, judged by mean average precision (`pip install faster-coco-eval`).

A model gives a map (images, classes + 4, rows, columns): for each position a logit of each class, and the distances
from its centre to the left, upper, right and lower edge of a box, as shares of the image behind a sigmoid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitsearch.core.figures import Figure
from vitsearch.core.metrics import quality
from vitsearch.data.fashion_mosaic import ACROSS
from vitsearch.tasks import Divergence, Judged, Task, TrainingTargets, Truth

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

EDGES = 4
INNER = 0.5
"""Positions in the middle of a box, of this share of its width and height, learn it; the nearest one always does."""
OVERLAP, BOXES = 0.6, 20
"""The intersection over union at which non-maximum suppression drops a box, and the most boxes of an image."""
GROUPS, STUDENT_T = 10, 2.262
"""A jackknife that leaves out one group of images after the other gives the interval of 95 %."""
WATCHED = 8
"""Images of a batch whose figure is shown while a model learns: that of all takes longer than the step."""


class Detection(Task):
    """The boxes of the garments of `builtin:fashion-mosaic`."""

    kind = "detection"
    labels = "masks"
    metrics = (quality("mean_average_precision"),)
    divergence = Divergence("nats", small=0.02, forgotten=0.5)

    def outputs(self, classes: int) -> int:
        """A logit for each class but the first, the background, and the edges of a box."""
        return classes - 1 + EDGES

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor:
        """The generalized intersection over union, and the quality focal loss of the classes (Li et al. 2020)."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
        from torchvision.ops import generalized_box_iou_loss

        assert targets.labels is not None
        logits, boxes, centres = read(outputs)
        true, classes = garments(targets.labels)
        middle, reach = (true[..., :2] + true[..., 2:]) / 2, (true[..., 2:] - true[..., :2]) * INNER / 2
        away = ((centres[:, None] - middle[:, None]).abs() / reach[:, None].clamp(min=1e-6)).amax(-1)
        is_learned = ((away < 1.0) | (away == away.amin(1, keepdim=True))) & (classes[:, None] >= 0)
        image, position, garment = is_learned.nonzero(as_tuple=True)
        of_boxes: torch.Tensor = generalized_box_iou_loss(boxes[image, position], true[image, garment])
        wanted = torch.zeros_like(logits)
        wanted[image, position, classes[image, garment]] = (1.0 - of_boxes.detach()).clamp(min=0.0)
        of_classes = (wanted - logits.sigmoid()).square() * cross_entropy(logits, wanted, reduction="none")
        return (of_classes.sum() + 2.0 * of_boxes.sum()) / max(len(image), 1)

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        """The mean of `divergences`; probabilities that do not exclude each other have no temperature."""
        return divergences(outputs, reference).mean()

    def diverge(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
        """`divergences` of each image."""
        import torch

        return divergences(torch.tensor(outputs), torch.tensor(reference)).double().numpy()

    def judge(self, outputs: NDArray[np.float32], truth: Truth) -> Judged:
        """The mean average precision of COCO, over overlaps from .50 to .95; of few images without an interval."""
        rows = np.arange(len(outputs))
        groups = [rows[rows % GROUPS != group] for group in range(GROUPS if len(rows) >= GROUPS else 0)]
        value, *left_out = average_precisions(outputs, truth, [rows, *groups])
        reach = STUDENT_T * (GROUPS - 1) / GROUPS**0.5 * float(np.std(left_out, ddof=1)) if left_out else None
        ends = (None, None) if reach is None else (value - reach, value + reach)
        return Judged({"mean_average_precision": Figure(value, *ends)})

    def batch_figure(self, outputs: torch.Tensor, targets: TrainingTargets, reference: torch.Tensor | None) -> float:
        """The same of the first images of a batch."""
        assert targets.labels is not None
        few, truth = outputs[:WATCHED].float().cpu().numpy(), Truth(targets.labels[:WATCHED].cpu().numpy())
        return average_precisions(few, truth, [np.arange(len(few))])[0]


def read(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (images, positions, classes) of maps, boxes (images, positions, 4) as left, upper, right and lower edge in
    shares of the image, and the centres (positions, 2) of the positions."""
    import torch

    rows, columns = ((torch.arange(side, device=outputs.device) + 0.5) / side for side in outputs.shape[2:])
    centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)
    values = outputs.float().flatten(2).transpose(1, 2)
    before, behind = values[..., -EDGES:].sigmoid().chunk(2, -1)
    return values[..., :-EDGES], torch.cat([centres - before, centres + behind], -1), centres


def garments(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes (images, garments, 4) of what is in each quarter of a picture, and their classes (images, garments), -1
    where there is nothing, from masks (images, height, width)."""
    import torch

    count, height, width = masks.shape
    tiles = masks.reshape(count, ACROSS, height // ACROSS, ACROSS, width // ACROSS).transpose(2, 3)
    place, starts, ends = torch.arange(ACROSS, device=masks.device), [], []
    for at, side, axis in ((place, width // ACROSS, 3), (place[:, None], height // ACROSS, 4)):
        is_filled = (tiles > 0).any(axis).byte()
        starts.append((at + is_filled.argmax(-1) / side) / ACROSS)
        ends.append((at + 1 - is_filled.flip(-1).argmax(-1) / side) / ACROSS)
    return torch.stack([*starts, *ends], -1).flatten(1, 2), tiles.amax((3, 4)).flatten(1).long() - 1


def divergences(outputs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How far outputs are from others, (images,), for each garment that the others see: the Kullback-Leibler divergence
    of the classes in nats, and the distance of the boxes in sides of the image."""
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    (own, boxes, _), (logits, others, _) = read(outputs), read(reference)
    seen = logits.sigmoid()
    of_classes = cross_entropy(own, seen, reduction="none") - cross_entropy(logits, seen, reduction="none")
    of_boxes = (boxes - others).abs().sum(-1) * seen.amax(-1)
    return (of_classes.sum((1, 2)) + of_boxes.sum(1)) / seen.sum((1, 2)).clamp(min=1.0)


def detections(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The boxes of the highest scores, (boxes, 7): image, left, upper, width, height, score, class."""
    import torch
    from torchvision.ops import box_convert, nms

    logits, boxes, _ = read(torch.tensor(outputs))
    best = logits.flatten(1).topk(min(BOXES, logits[0].numel()), dim=1)
    positions, classes = best.indices // logits.shape[2], (best.indices % logits.shape[2]).flatten()
    chosen = boxes.gather(1, positions[..., None].expand(-1, -1, EDGES)).flatten(0, 1).double()
    image, scores = torch.arange(len(outputs)).repeat_interleave(positions.shape[1]), best.values.sigmoid().flatten()
    apart = 4.0 * (image * logits.shape[2] + classes)[:, None]  # so that no box of another image or class overlaps
    parts = (image[:, None], box_convert(chosen, "xyxy", "xywh"), scores[:, None], classes[:, None])
    return torch.cat(parts, 1)[nms(chosen + apart, scores.double(), OVERLAP)].numpy()


def average_precisions(outputs: NDArray[np.float32], truth: Truth, groups: list[NDArray[np.int64]]) -> list[float]:
    """The mean average precision of each of several groups of images, named by their rows."""
    import torch
    from faster_coco_eval import COCO, COCOeval_faster
    from torchvision.ops import box_convert

    assert truth.labels is not None
    boxes, classes = garments(torch.tensor(truth.labels))
    sizes = box_convert(boxes, "xyxy", "xywh")
    true = [
        {"id": number, "image_id": row, "category_id": int(classes[row, at]), "iscrowd": 0}
        | {"bbox": sizes[row, at].tolist(), "area": float(sizes[row, at, 2:].prod())}
        for number, (row, at) in enumerate((classes >= 0).nonzero().tolist(), 1)
    ]
    images, kinds = ([{"id": number} for number in range(n)] for n in (len(outputs), outputs.shape[1] - EDGES))
    ground_truth = COCO({"images": images, "annotations": true, "categories": kinds})
    predictions, values = ground_truth.loadRes(detections(outputs)), []
    for group in groups:
        evaluated = COCOeval_faster(ground_truth, predictions, "bbox")
        evaluated.params.imgIds, evaluated.params.areaRng = group.tolist(), [[0, 1e10]]
        evaluated.params.areaRngLbl = ["all"]
        evaluated.evaluate()
        evaluated.accumulate()
        precision = evaluated.eval["precision"]
        values.append(float(precision[precision > -1].mean()))
    return values
