"""Labels of timm's data sets: whole numbers from 0, in one order of classes for every split."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from vitsearch.data.arrays import Labels
from vitsearch.data.problems import Defects, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.read import Sample
from vitsearch.errors import DataError

_MOST = 100_000


def label_of(sample: Sample, defects: Defects) -> int | None:
    """The label, or ``None`` and a line in ``defects``."""
    label = sample.label
    if label is None:
        defects.broken(sample.name, "it has no label")
        return None
    if not isinstance(label, Integral):
        defects.broken(sample.name, f"its label {label!r} is not a whole number".replace("\n", " ")[:200])
        return None
    if not 0 <= int(label) < _MOST:
        defects.broken(sample.name, f"its label is {label}; allowed: 0 to {_MOST - 1}")
        return None
    return int(label)


def class_names_of(spec: DataSpec, own: tuple[str, ...], labels: Sequence[Labels]) -> tuple[str, ...]:
    """The set's own names in its own order, else those of ``spec``, else the numbers; stored with the study."""
    if own and spec.class_names not in (None, own):
        raise DataError(f"data.class_names: {spec.source} has names of its own: {some(map(repr, own))}; leave it out")
    highest = max(int(each.max()) for each in labels) + 1
    names = own or spec.class_names or tuple(str(label) for label in range(highest))
    if highest > len(names):
        key = "" if own else "data.class_names: "
        raise DataError(f"{key}{spec.source} has the label {highest - 1}, and {len(names)} class names")
    return names


def relabelled(labels: Labels, names: Sequence[str], train: Sequence[str], part: str, defects: Defects) -> Labels:
    """Labels that count in ``names`` as labels that count in those of the training split.

    timm and torchvision number the class folders of each split by themselves. Classes that train
    lacks become -1 and are told.
    """
    if tuple(names) == tuple(train):
        return labels
    places = {name: label for label, name in enumerate(train)}
    unknown = [repr(name) for label, name in enumerate(names) if name not in places and label in labels]
    if unknown:
        known = some(repr(name) for name in train)
        defects.add(f"{part} has classes that train lacks: {some(unknown)}; train has {known}")
    return np.array([places.get(name, -1) for name in names], np.int64)[labels]
