"""Labels of timm's data sets: whole numbers from 0, with one order of classes for all splits."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from vitsearch.data.arrays import Labels
from vitsearch.data.problems import Problems, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.read import Sample
from vitsearch.errors import DataError

_MOST = 100_000


def label_of(sample: Sample, problems: Problems) -> int | None:
    """The label of a sample. When it is not valid: `None`, and a line in `problems`."""
    label = sample.label
    if label is None:
        problems.add_unreadable(sample.name, "it has no label")
        return None
    if not isinstance(label, Integral):
        problems.add_unreadable(sample.name, f"its label {label!r} is not a whole number".replace("\n", " ")[:200])
        return None
    if not 0 <= int(label) < _MOST:
        problems.add_unreadable(sample.name, f"its label {label} is out of range (0 to {_MOST - 1})")
        return None
    return int(label)


def class_names_of(spec: DataSpec, own: tuple[str, ...], labels: Sequence[Labels]) -> tuple[str, ...]:
    """The set's own class names in its own order; without those, the names in `spec`; without those, the numbers.

    Raises `DataError` when `spec` contradicts the set or has too few names.
    """
    if own and spec.class_names not in (None, own):
        raise DataError(
            f"data.class_names: {spec.source} has class names of its own: {some(map(repr, own))}; leave the key out"
        )
    highest = max(int(each.max()) for each in labels) + 1
    names = own or spec.class_names or tuple(str(label) for label in range(highest))
    if highest > len(names):
        key = "" if own else "data.class_names: "
        raise DataError(f"{key}{spec.source} has the label {highest - 1}, but only {len(names)} class names")
    return names


def relabelled(labels: Labels, names: Sequence[str], train: Sequence[str], part: str, problems: Problems) -> Labels:
    """Convert labels that index `names` to labels that index `train`, the class names of the training split.

    timm and torchvision number the class folders of each split separately. A class that train lacks becomes -1 and is
    added to `problems`.
    """
    if tuple(names) == tuple(train):
        return labels
    label_in_train = {name: label for label, name in enumerate(train)}
    unknown = [repr(name) for label, name in enumerate(names) if name not in label_in_train and label in labels]
    if unknown:
        listed = some(repr(name) for name in train)
        problems.add(f"{part} has classes that train lacks: {some(unknown)}; train has {listed}")
    return np.array([label_in_train.get(name, -1) for name in names], np.int64)[labels]
