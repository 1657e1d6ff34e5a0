"""The classes of a data set with their numbers of images in each split, and how the splits came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitsearch.core.data_sources import UNLABELLED
from vitsearch_agent.base.printable import printable

MOST_LISTED = 12  # classes; of more, the terminal shows the largest and the smallest
_AT_EACH_END = 4
SPLITS = ("train", "holdout", "validation", "test")


@dataclass(frozen=True)
class SplitOrigin:
    """Where the images of a split are from, in words; `share` and `seed` are those of a draw."""

    source: str
    share: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class SplitCounts:
    """The images of one split: their number in each class, and where they are from. `masks` is the number of those with
    masks, of which each may have several classes."""

    counts: tuple[int, ...]
    origin: SplitOrigin
    masks: int | None = None

    @property
    def images(self) -> int:
        return sum(self.counts) if self.masks is None else self.masks


@dataclass(frozen=True)
class PrintedClassCounts:
    """The images of a class."""

    name: str
    """The class."""
    train: int
    """Training images, those of the holdout among them."""
    holdout: int
    """Those of them that judge models in the search and train none."""
    validation: int
    """Validation images."""
    test: int | None
    """Test images; null where there are none."""


@dataclass(frozen=True)
class PrintedSplit:
    """The images of a split."""

    images: int
    """In all."""
    source: str
    """Where they are from."""
    share: float | None
    """Of the images that they were drawn from; null where they were not drawn."""
    seed: int | None
    """Of that draw."""

    @classmethod
    def of(cls, split: SplitCounts) -> PrintedSplit:
        return cls(split.images, split.origin.source, split.origin.share, split.origin.seed)


@dataclass(frozen=True)
class PrintedSplits:
    """The splits of a data set."""

    train: PrintedSplit
    """Training images, those of the holdout among them."""
    holdout: PrintedSplit
    """Those of them that judge models in the search and train none."""
    validation: PrintedSplit
    """Validation images."""
    test: PrintedSplit | None
    """Test images, which the search never uses; null where there are none."""


@dataclass(frozen=True)
class Layout:
    """The `splits` are a part of `SPLITS`: the holdout is a part of train, and test may be missing."""

    class_names: tuple[str, ...]
    splits: dict[str, SplitCounts]

    def printed_classes(self) -> tuple[PrintedClassCounts, ...]:
        def counts(split: str) -> tuple[int, ...]:
            return self.splits[split].counts

        test = counts("test") if "test" in self.splits else [None] * len(self.class_names)
        rows = zip(self.class_names, counts("train"), counts("holdout"), counts("validation"), test, strict=True)
        return tuple(PrintedClassCounts(*row) for row in rows)

    def printed_splits(self) -> PrintedSplits:
        train, holdout, validation = (PrintedSplit.of(self.splits[name]) for name in SPLITS[:3])
        test = PrintedSplit.of(self.splits["test"]) if "test" in self.splits else None
        return PrintedSplits(train, holdout, validation, test)

    def describe(self) -> str:
        """A line for each split, and a table of the classes."""
        return "\n".join([*self._splits(), *self._classes()])

    def _splits(self) -> Iterator[str]:
        for name in SPLITS:
            split = self.splits.get(name)
            text = "none" if split is None else f"{split.images:,} images, {split.origin.source}"
            yield f"{name}: {printable(text)}"

    def _classes(self) -> Iterator[str]:
        if self.class_names == (UNLABELLED,):
            yield "classes: none, as the images have no labels"
            return
        count = len(self.class_names)
        rows: list[int | None] = list(range(count))
        if count > MOST_LISTED:
            train = self.splits["train"].counts
            ranked = sorted(range(count), key=lambda row: -train[row])
            rows = [*ranked[:_AT_EACH_END], None, *ranked[-_AT_EACH_END:]]
            yield f"classes: {count}; the largest and the smallest by training images:"
        else:
            yield f"classes: {count}"
        cells = [["class", *SPLITS]]
        for row in rows:
            if row is None:
                cells.append([f"({count - 2 * _AT_EACH_END} more)", *("" for _ in SPLITS)])
            else:
                counts = (self._count(split, row) for split in SPLITS)
                cells.append([printable(self.class_names[row]), *("-" if n is None else str(n) for n in counts)])
        width = max(len(line[0]) for line in cells)
        for first, *others in cells:
            yield f"  {first:{width}}{''.join(f'{cell:>12}' for cell in others)}".rstrip()

    def _count(self, split: str, row: int) -> int | None:
        return self.splits[split].counts[row] if split in self.splits else None
