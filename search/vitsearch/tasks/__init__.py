"""What a model is for: the room that knows what its outputs mean.

    base.py            Task (the protocol), and the values that it takes and gives
    classification/    one class for each image: confusion counts, caveats, divergence in nats
    embedding/         the likeness of images, held to the outputs of one reference model
    segmentation/      a class for each pixel, judged by the intersection over union

Importing this package imports neither torch nor numpy. Other packages add tasks through the entry-point group
`vitsearch.tasks` (`name = "module:task"`), or a space file names one as `module:task`; their conformance test is
`vitsearch.testing.tasks.TaskTests`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, cast, get_args

from vitsearch.core import metrics
from vitsearch.errors import TaskError
from vitsearch.own_module import ImportProblem, import_own
from vitsearch.registry import Registry
from vitsearch.tasks.base import (
    Divergence,
    Judged,
    Labelling,
    Tally,
    Task,
    TrainingTargets,
    Truth,
    mean_figure,
    share_figure,
    why_whole_images,
)
from vitsearch.tasks.classification.task import CLASSIFICATION
from vitsearch_agent.base.canonical_json import digest, file_digest

__all__ = [
    "CLASSIFICATION",
    "TASKS",
    "Divergence",
    "Judged",
    "Tally",
    "Task",
    "TaskSource",
    "TrainingTargets",
    "Truth",
    "mean_figure",
    "share_figure",
    "why_whole_images",
]

OURS = {
    "classification": "vitsearch.tasks.classification.task:CLASSIFICATION",
    "embedding": "vitsearch.tasks.embedding.task:EMBEDDING",
    "segmentation": "vitsearch.tasks.segmentation.task:SEGMENTATION",
}
TASKS: Registry[Task] = Registry("task", OURS, "vitsearch.tasks")


@dataclass(frozen=True)
class TaskSource:
    """Where a task is: a name of the registry, or `module:attribute`, whose module may be in `folder`."""

    kind: str = CLASSIFICATION.kind
    folder: str = ""

    @property
    def is_own_code(self) -> bool:
        """Whether another package or a user brings it."""
        return self.kind not in OURS

    @property
    def digest(self) -> str:
        """Of a task's name and, where another package or a user brings it, of the module that has it."""
        module = sys.modules[type(self.find()).__module__]
        is_ours = module.__name__.startswith(f"{__name__}.")
        code = None if is_ours or module.__file__ is None else file_digest(module.__file__)
        return digest({"kind": self.kind, "code": code})

    def find(self) -> Task:
        """Import the task, and make its metrics known in this process.

        Returns:
            The task.

        Raises:
            UnknownName: No task is registered under that name.
            TaskError: The module or its attribute cannot be imported, or is no task.
        """
        return _found(self)


@cache
def _found(source: TaskSource) -> Task:
    task: Any = _imported(source) if ":" in source.kind else TASKS.get(source.kind)
    task = task() if isinstance(task, type) else task
    missing = [name for name in Task.__annotations__ if not hasattr(task, name)]
    missing += [name for name in ("loss", "distance", "diverge", "judge") if not callable(getattr(task, name, None))]
    if missing:
        raise TaskError(f"task {source.kind!r} has no {', '.join(missing)}; what a task has: docs/add_a_task.md")
    if not task.metrics:
        raise TaskError(f"task {source.kind!r} has no metric")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", str(task.kind)):
        allowed = "allowed are small letters, digits, - and _, a letter first"
        raise TaskError(f"task {source.kind!r}: {task.kind!r} is not a valid kind: {allowed}")
    if task.kind in OURS and source.is_own_code:  # bundles of these have what `verify` reads of them by their kind
        raise TaskError(
            f"task {source.kind!r}: {task.kind!r} is the kind of a task of vitsearch; give this one another, "
            f"or write 'kind: {task.kind}' for that task"
        )
    if task.labels not in get_args(Labelling):
        allowed = ", ".join(get_args(Labelling))
        raise TaskError(f"task {source.kind!r}: labels is {task.labels!r}; allowed: {allowed}")
    metrics.declare(task.metrics)
    return cast(Task, task)


def _imported(source: TaskSource) -> Any:
    module_name, _, attribute = source.kind.partition(":")
    try:
        module = import_own(module_name, source.folder)
    except ImportProblem as problem:
        raise TaskError(f"task {source.kind!r}: {problem}") from problem
    if not hasattr(module, attribute):
        own = [name for name, value in vars(module).items() if _is_derived(value)]
        tasks = f"its tasks: {', '.join(own)}" if own else "it has no class that derives from Task"
        raise TaskError(f"task {source.kind!r}: {module.__file__} has no {attribute!r}; {tasks}")
    return getattr(module, attribute)


def _is_derived(value: object) -> bool:
    return isinstance(value, type) and value is not Task and Task in value.__mro__
