"""Simulate how often the intervals of the mean recall and the mean F1 score hold the true value.

    python benchmarks/class_intervals.py --studies 400

Models with known chances of each answer classify images that are drawn anew each time; a 95 % interval should hold the
true value in 95 % of these studies. Beside the intervals of `vitsearch.tasks.classification.confusion` stands a plain
bootstrap of the same counts. About 20 CPU-seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitsearch.tasks.classification.confusion import Confusion

Floats = npt.NDArray[np.float64]
IMBALANCED = (0.7, 0.22, 0.08)


@dataclass(frozen=True)
class Case:
    """A model: the shares of the classes, and for each class the chances of its answers."""

    name: str
    shares: Floats
    chances: Floats
    images: int

    @property
    def truth(self) -> Floats:
        """Mean recall and mean F1 of infinitely many images."""
        means: Floats = _means((self.shares[:, None] * self.chances)[None])[0]
        return means


def cases() -> list[Case]:
    shares = np.array(IMBALANCED)
    misses = np.array([[0.95, 0.04, 0.01], [0.2, 0.75, 0.05], [0.5, 0.4, 0.1]])
    finds = np.array([[0.97, 0.02, 0.01], [0.02, 0.97, 0.01], [0.02, 0.01, 0.97]])
    ten = np.full((10, 10), 0.1 / 9)
    np.fill_diagonal(ten, 0.9)
    chosen = [Case("misses the rare class", shares, misses, n) for n in (115, 1000)]
    chosen += [Case("finds all classes", shares, finds, n) for n in (115, 1000)]
    return chosen + [Case("ten equal classes", np.full(10, 0.1), ten, n) for n in (100, 2000)]


def _means(counts: npt.NDArray[Any]) -> Floats:
    """Mean recall and mean F1, (studies, 2), of counts (studies, classes, classes)."""
    images, taken, right = counts.sum(2), counts.sum(1), np.einsum("rii->ri", counts)
    with np.errstate(invalid="ignore"):
        recalls = np.where(images > 0, right / images, np.nan)
        scores = np.where(images > 0, 2 * right / (images + taken), np.nan)
    return np.stack([np.nanmean(recalls, 1), np.nanmean(scores, 1)], 1)


def covered(case: Case, studies: int, rng: np.random.Generator) -> Floats:
    """The share of studies whose interval holds the truth: of both means by our intervals, then by a bootstrap."""
    classes, chances = len(case.shares), (case.shares[:, None] * case.chances).ravel()
    hits = np.zeros(4)
    for _ in range(studies):
        counts = rng.multinomial(case.images, chances)
        cells = ((int(at) // classes, int(at) % classes, int(counts[at])) for at in np.flatnonzero(counts))
        figures = Confusion(tuple(cells)).figures()
        ours = [figures[name] for name in ("accuracy_balanced", "f1_macro")]
        drawn = _means(rng.multinomial(case.images, counts / case.images, size=1000).reshape(-1, classes, classes))
        plain = np.percentile(drawn, [2.5, 97.5], axis=0)
        for place, true in enumerate(case.truth):
            low, high = ours[place].low or 0.0, ours[place].high or 0.0
            hits[place] += low <= true <= high
            hits[2 + place] += plain[0, place] <= true <= plain[1, place]
    return hits / studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    studies, rng = parser.parse_args().studies, np.random.default_rng(0)
    print("| model | images | mean recall | F1 | bootstrap alone: mean recall | F1 |")
    print("|---|---|---|---|---|---|")
    for case in cases():
        shares = " | ".join(f"{share:.3f}" for share in covered(case, studies, rng))
        print(f"| {case.name} | {case.images} | {shares} |")


if __name__ == "__main__":
    main()
