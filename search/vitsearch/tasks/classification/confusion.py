"""The confusion counts of a classifier: which classes it takes its images for, and the figures that follow.

They are kept sparse: one cell for each pair of a class and a predicted class that occurs. So they never have more cells
than images: a model of 1,000 classes that is right on 80 % of 50,000 images has some 7,000 to 11,000 cells, 0.1 to
0.2 MB of JSON.

A *recall* is the share of the images of one class that are found. The figures are those of the classes that have an
image: `accuracy_balanced` is the mean of the recalls, `recall_min` the recall of the worst class, `f1_macro` the
mean of the F1 scores. 95 % intervals: of one recall that of Wilson (1927); of their mean the one that Zou and Donner
(2008) make of those; of the F1 score that of a bootstrap over images (Efron 1979), at least as wide to each side as
that of the mean recall: images of a small class that are all right, or all wrong, do not vary when they are drawn
again. In simulations with 3 and 10 classes and 100 to 2,000 images (`benchmarks/class_intervals.py`) the intervals
hold the true value in 89 to 97 % (mean recall) and 95 to 100 % (F1) of the cases; a bootstrap alone in 72 to 96 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vitsearch.core.figures import Figure
from vitsearch.core.pareto import wilson
from vitsearch.tasks.base import NO_CLASS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DRAWS = 1000
"""Resamples of the bootstrap: the ends of a 95 % interval are its 25th and 975th value."""
DRAWN_CELLS = 2_000_000
"""Above so many cells in all resamples together there are fewer of those, down to `FEWEST_DRAWS`."""
FEWEST_DRAWS = 200
SEED = 0
Cell = tuple[int, int, int]
"""A class, the class that it is taken for, and the number of such images."""


@dataclass(frozen=True)
class ClassAccuracy:
    """How many of the `n` images of a class are found, with the 95 % interval of this share, its recall.

    `predicted` images of any class are taken for it. `confused_with` is the class that most of the others are taken
    for, None where all are right.
    """

    name: str
    n: int
    correct: int
    low: float
    high: float
    predicted: int
    confused_with: str | None
    confused: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.n

    @property
    def precision(self) -> float | None:
        """The share of the images taken for this class that are of it; None where no image is."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def f1(self) -> float:
        """The harmonic mean of recall and precision."""
        return 2 * self.correct / (self.n + self.predicted)


@dataclass(frozen=True)
class Confusion:
    """How many images of each class were taken for which. `cells` are sorted, each with one image or more.

    Raises `ValueError` for other cells, and where there are none.
    """

    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("confusion counts of no image: expected at least one")
        pairs = [(label, predicted) for label, predicted, _ in self.cells]
        for (label, predicted, count), before in zip(self.cells, [None, *pairs], strict=False):
            if label < 0 or predicted < NO_CLASS or count < 1 or (before and (label, predicted) <= before):
                raise ValueError(f"{[label, predicted, count]} is no cell of sorted confusion counts")

    @classmethod
    def of(cls, labels: npt.ArrayLike, predicted: npt.ArrayLike) -> Confusion:
        """Count the `predicted` classes of images with these `labels`, both int (N,)."""
        import numpy as np  # here, as the command line starts without it

        pairs, counts = np.unique(np.stack([np.asarray(labels), np.asarray(predicted)]), axis=1, return_counts=True)
        rows = zip(*pairs.tolist(), counts.tolist(), strict=True)
        return cls(tuple((int(label), int(answer), int(count)) for label, answer, count in rows))

    @classmethod
    def from_json(cls, rows: Iterable[Sequence[int]]) -> Confusion:
        return cls(tuple((label, predicted, count) for label, predicted, count in rows))

    def to_json(self) -> list[list[int]]:
        """A list of `[class, predicted class, images]`."""
        return [list(cell) for cell in self.cells]

    @cached_property
    def n(self) -> int:
        return sum(count for _, _, count in self.cells)

    @cached_property
    def correct(self) -> int:
        return sum(count for label, predicted, count in self.cells if label == predicted)

    @property
    def accuracy(self) -> float:
        return self.correct / self.n

    def by_class(self, names: Sequence[str]) -> list[ClassAccuracy]:
        """The accuracy of each class that has an image, in the order of the classes, which are called `names`."""
        wrong: dict[int, tuple[int, int]] = {}
        for label, other, count in self.cells:
            if label != other and count > wrong.get(label, (NO_CLASS, 0))[1]:
                wrong[label] = other, count
        accuracies = []
        for label, images in self._images.items():
            worst, confused = wrong.get(label, (NO_CLASS, 0))
            taken_for = names[worst] if worst != NO_CLASS else "no class" if confused else None
            right, taken = self._right[label], self._predicted.get(label, 0)
            interval = wilson(right, images)
            accuracies.append(ClassAccuracy(names[label], images, right, *interval, taken, taken_for, confused))
        return accuracies

    @cached_property
    def recalls(self) -> dict[int, float]:
        """The recall of each class that has an image."""
        return {label: self._right[label] / images for label, images in self._images.items()}

    @property
    def largest(self) -> int:
        """The class with the most images, the first of several."""
        return max(self._images, key=lambda label: self._images[label])

    @property
    def largest_share(self) -> float:
        """The share of the images that are of the largest class: the accuracy of a model that always names it."""
        return self._images[self.largest] / self.n

    @property
    def mean_recall(self) -> float:
        return math.fsum(self.recalls.values()) / len(self.recalls)

    @property
    def f1_macro(self) -> float:
        scores = (2 * self._right[c] / (n + self._predicted.get(c, 0)) for c, n in self._images.items())
        return math.fsum(scores) / len(self._images)

    def figures(self) -> dict[str, Figure]:
        """The metrics that say more than the accuracy, each with its 95 % interval."""
        recalls = self.recalls
        worst = min(recalls, key=lambda label: (recalls[label], -self._images[label]))
        mean, (low, high) = self.mean_recall, self._mean_recall_interval()
        f1, (f1_low, f1_high) = self.f1_macro, self._drawn_f1()
        f1_low, f1_high = min(f1_low, f1 - (mean - low)), max(f1_high, f1 + (high - mean))
        return {
            "accuracy_balanced": Figure(mean, low, high),
            "recall_min": Figure(recalls[worst], *wilson(self._right[worst], self._images[worst])),
            "f1_macro": Figure(f1, max(0.0, f1_low), min(1.0, f1_high)),
        }

    @cached_property
    def _images(self) -> dict[int, int]:
        images: dict[int, int] = {}
        for label, _, count in self.cells:
            images[label] = images.get(label, 0) + count
        return images

    @cached_property
    def _right(self) -> dict[int, int]:
        return dict.fromkeys(self._images, 0) | {label: count for label, other, count in self.cells if label == other}

    @cached_property
    def _predicted(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for _, predicted, count in self.cells:
            counts[predicted] = counts.get(predicted, 0) + count
        return counts

    def _mean_recall_interval(self) -> tuple[float, float]:
        below = above = 0.0
        for label, images in self._images.items():
            share, (low, high) = self.recalls[label], wilson(self._right[label], images)
            below, above = below + (share - low) ** 2, above + (high - share) ** 2
        mean, classes = self.mean_recall, len(self._images)
        return max(0.0, mean - math.sqrt(below) / classes), min(1.0, mean + math.sqrt(above) / classes)

    def _drawn_f1(self) -> tuple[float, float]:
        """The 95 % interval of the F1 score by a bootstrap: as many images are drawn, with replacement."""
        import numpy as np  # here, as the command line starts without it

        labels, predicted, counts = np.array(self.cells, dtype=np.int64).T
        draws = max(FEWEST_DRAWS, min(DRAWS, DRAWN_CELLS // len(counts)))
        drawn = np.random.default_rng(SEED).multinomial(self.n, counts / self.n, size=draws)
        classes = np.array(list(self._images))
        images = _summed(drawn, np.searchsorted(classes, labels), len(classes))
        is_right, is_known = labels == predicted, np.isin(predicted, classes)
        right = _summed(drawn[:, is_right], np.searchsorted(classes, labels[is_right]), len(classes))
        taken = _summed(drawn[:, is_known], np.searchsorted(classes, predicted[is_known]), len(classes))
        has_images = images > 0  # a class of which nothing was drawn has no score in this resample
        scores = np.where(has_images, 2 * right / np.maximum(images + taken, 1), 0.0)
        low, high = np.percentile(scores.sum(axis=1) / has_images.sum(axis=1), [2.5, 97.5])
        return float(low), float(high)


def _summed(drawn: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    """The columns of `drawn` (resamples, cells) added up by their group: (resamples, `number`)."""
    import numpy as np  # here, as the command line starts without it

    sums = np.zeros((len(drawn), number), np.int64)
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    if len(present):
        sums[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return sums
