"""What a model is for: the room that knows what its outputs mean.

    base.py            Task (the protocol), and the values that it takes and gives
    classification/    one class for each image: confusion counts, caveats, divergence in nats

Importing this package imports neither torch nor numpy. Other packages add tasks through the entry-point group
`vitsearch.tasks` (`name = "module:task"`), or a space file names one as `module:task`; their conformance test is
`vitsearch.testing.tasks.TaskTests`.
"""

from __future__ import annotations

import importlib

from vitsearch.core import metrics
from vitsearch.errors import TaskError
from vitsearch.registry import Registry
from vitsearch.tasks.base import Divergence, Judged, Tally, Task, TrainingTargets, Truth
from vitsearch.tasks.classification.task import CLASSIFICATION

__all__ = [
    "CLASSIFICATION",
    "TASKS",
    "Divergence",
    "Judged",
    "Tally",
    "Task",
    "TrainingTargets",
    "Truth",
    "find_task",
]

TASKS: Registry[Task] = Registry(
    "task", {"classification": "vitsearch.tasks.classification.task:CLASSIFICATION"}, "vitsearch.tasks"
)


def find_task(kind: str) -> Task:
    """Import the task of a study, and make its metrics known in this process.

    Args:
        kind: A name of the registry, or `module:attribute`.

    Returns:
        The task.

    Raises:
        UnknownName: No task is registered under that name.
        TaskError: The module or its attribute cannot be imported, or is no task.
    """
    task = _imported(kind) if ":" in kind else TASKS.get(kind)
    missing = [name for name in Task.__annotations__ if not hasattr(task, name)]
    missing += [name for name in ("loss", "distance", "diverge", "judge") if not callable(getattr(task, name, None))]
    if missing:
        raise TaskError(f"task {kind!r} has no {', '.join(missing)}; what a task has: docs/add_a_task.md")
    if not task.metrics:
        raise TaskError(f"task {kind!r} has no metric")
    metrics.declare(task.metrics)
    return task


def _imported(kind: str) -> Task:
    module, _, attribute = kind.partition(":")
    try:
        task: Task = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module is the user's own
        raise TaskError(f"task {kind!r} cannot be imported: {type(error).__name__}: {error}") from error
    return task
