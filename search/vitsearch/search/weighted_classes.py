"""Classes to which a space file gives weights: they must be those of the data, which is read after the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vitsearch.core.class_weights import unknown_classes
from vitsearch.errors import DataError
from vitsearch.space import SearchSpace
from vitsearch.space.problems import Problem, nearest_or_all
from vitsearch.space.task import TeacherSection, Training

LISTED = 20
"""Classes that a message lists at most."""


def weighted(space: SearchSpace) -> Mapping[str, Mapping[str, float]]:
    """The weights that are given to classes by their names, by the key of the training in the section `task`."""
    task = space.task
    trainings: dict[str, Training] = {"base": task.base, "fine_tune": task.fine_tune}
    if isinstance(task.teacher, TeacherSection) and task.teacher.class_weights != task.base.class_weights:
        trainings["teacher"] = task.teacher
    class_weights = {key: training.class_weights for key, training in trainings.items()}
    return {key: weights for key, weights in class_weights.items() if not isinstance(weights, str)}


def unknown_names(space: SearchSpace, class_names: Sequence[str]) -> Iterator[Problem]:
    """A problem for each name with a weight that is no class of the data."""
    for key, weights in weighted(space).items():
        for name in unknown_classes(tuple(weights.items()), class_names):
            path = ("task", key, "class_weights", name)
            yield Problem(path, f"unknown class {name!r}{_nearest(name, class_names)}")


def refuse_unknown_names(space: SearchSpace, class_names: Sequence[str]) -> None:
    """Raise `DataError` for weights of classes that the data does not have."""
    if problems := [f"{'.'.join(map(str, path))}: {message}" for path, message, _ in unknown_names(space, class_names)]:
        raise DataError("; ".join(problems))


def _nearest(name: str, class_names: Sequence[str]) -> str:
    text = nearest_or_all(name, class_names)
    many = len(class_names) > LISTED and text.startswith("; allowed")
    return f"; the data has {len(class_names)} classes" if many else text
