"""What confusion counts say against an accuracy: classes that are hardly found, one class that explains it all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitsearch.core.pareto import wilson
from vitsearch.tasks.classification.confusion import ClassAccuracy, Confusion

MISSED = 0.5
"""A class is missed if its recall is below this share of the mean recall."""
NAMED = 3
"""Missed classes that a sentence names; the others are counted."""


@dataclass(frozen=True)
class ClassCaveats:
    """`missed` are the classes with a recall below half of the `mean_recall`, the worst first. `always` is the
    largest class, `always_share` its share of the images, where the lower end of the accuracy's interval does not
    exceed it; None elsewhere. `classes` are those that have an image."""

    missed: tuple[ClassAccuracy, ...]
    mean_recall: float
    accuracy: float
    interval: tuple[float, float]
    always: str | None
    always_share: float
    classes: int

    def sentences(self, subject: str) -> Iterator[str]:
        """What to know before the accuracy of the model, which is called `subject`, is believed."""
        if self.always is not None:
            low, high = self.interval
            yield (
                f"{subject} is no more accurate than always saying {self.always!r}: {self.accuracy:.3f} ({low:.3f} to "
                f"{high:.3f}), and {self.always_share:.3f} of the images are of that class; its mean recall is "
                f"{self.mean_recall:.2f} instead of {1 / self.classes:.2f}"
            )
        if self.missed:
            counts = [
                f"{class_accuracy.correct} of {class_accuracy.n} {class_accuracy.name!r}"
                for class_accuracy in self.missed[:NAMED]
            ]
            if (more := len(self.missed) - NAMED) > 0:
                counts.append(f"too few of {more} more {'class' if more == 1 else 'classes'}")
            yield f"{subject} finds {listed(counts)}: less than half of the mean recall, {self.mean_recall:.2f}"


def listed(texts: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def class_warnings(named: Mapping[str, ClassCaveats], others: Mapping[str, ClassCaveats]) -> Iterator[str]:
    """The sentences of the models that are named, and one line for all `others` (by the numbers of their trials) that
    miss a class."""
    for subject, caveats in named.items():
        yield from caveats.sentences(subject)
    missing = {trial: caveats for trial, caveats in others.items() if caveats.missed}
    if missing:
        names = dict.fromkeys(class_accuracy.name for caveats in missing.values() for class_accuracy in caveats.missed)
        shown = [repr(name) for name in names][:NAMED] + (["others"] if len(names) > NAMED else [])
        trials = f"trial{'s' if len(missing) > 1 else ''} {listed(list(missing))} of the front"
        yield f"{trials} {'miss' if len(missing) > 1 else 'misses'} a class in the same way: {listed(shown)}"


def class_caveats(confusion: Confusion, names: Sequence[str]) -> ClassCaveats:
    """What the counts of a model on classes called `names` say against its accuracy."""
    mean, interval = confusion.mean_recall, wilson(confusion.correct, confusion.n)
    by_class = confusion.by_class(names)
    missed = [class_accuracy for class_accuracy in by_class if class_accuracy.accuracy < MISSED * mean]
    is_no_better = interval[0] <= confusion.largest_share
    return ClassCaveats(
        tuple(sorted(missed, key=lambda class_accuracy: (class_accuracy.accuracy, -class_accuracy.n))),
        mean,
        confusion.accuracy,
        interval,
        names[confusion.largest] if is_no_better else None,
        confusion.largest_share,
        len(by_class),
    )
