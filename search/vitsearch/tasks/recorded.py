"""A task of one's own as a study keeps it: what readers need, without its code.

`front`, `show`, the report and others read a study without importing the task, because the path of its module is what
a database says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vitsearch.core.metrics import Metric, declare, quality
from vitsearch.errors import TaskError
from vitsearch.tasks.base import Divergence, Judged, Labelling, Reduction, Task, TrainingTargets, Truth

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from vitsearch.tasks.base import Floats


@dataclass(frozen=True)
class TaskFacts:
    """The attributes of a task, in values that a study keeps."""

    kind: str
    labels: Labelling
    has_reference: bool
    output: str
    gives_map: bool
    reduction: Reduction
    divergence: Divergence
    metrics: tuple[Metric, ...]

    @classmethod
    def of(cls, task: Task) -> TaskFacts:
        return cls(
            task.kind,
            task.labels,
            task.has_reference,
            task.output,
            task.gives_map,
            task.reduction,
            task.divergence,
            task.metrics,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"metrics": [_metric_json(metric) for metric in self.metrics]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskFacts:
        """Read what `to_json` gave, and make its metrics known in this process. Raises `TaskError`, or what comes of
        other values."""
        metrics = tuple(quality(**metric) for metric in value["metrics"])
        declare(metrics)
        return cls(**{**value, "divergence": Divergence(**value["divergence"]), "metrics": metrics})


def _metric_json(metric: Metric) -> dict[str, Any]:
    worst, best = metric.span or (0.0, 1.0)
    return {"name": metric.name, "worst": worst, "best": best, "unit": metric.unit, "is_count": metric.is_count} | {
        "is_signed": metric.is_signed
    }


class RecordedTask(Task):
    """A task whose code is not here: its models can be read, not judged."""

    def __init__(self, facts: TaskFacts) -> None:
        self.kind = facts.kind
        self.labels = facts.labels
        self.has_reference = facts.has_reference
        self.output = facts.output
        self.gives_map = facts.gives_map
        self.reduction = facts.reduction
        self.divergence = facts.divergence
        self.metrics = facts.metrics

    def loss(self, outputs: torch.Tensor, targets: TrainingTargets) -> torch.Tensor | None:
        raise self._no_code()

    def distance(self, outputs: torch.Tensor, reference: torch.Tensor, temperature: float) -> torch.Tensor:
        raise self._no_code()

    def diverge(self, outputs: Floats, reference: Floats) -> npt.NDArray[np.float64]:
        raise self._no_code()

    def judge(self, outputs: Floats, truth: Truth) -> Judged:
        raise self._no_code()

    def _no_code(self) -> TaskError:
        return TaskError(f"task {self.kind}: its code is not imported to read a study")
