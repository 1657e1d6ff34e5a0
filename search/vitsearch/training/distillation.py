"""Distillation: the losses of a student against its teacher.

With weight `w` and temperature `T` of the recipe every method trains on
`(1 - w) loss(student, labels) + w distance(student, teacher)`, both those of the task; of a task that learns from
a reference alone on the distance. For classification the loss is the cross-entropy (CE), and the distance is

    logits      T^2 KL(teacher || student)                              Hinton et al. 2015
    feature     the same, and the hint below                            Romero et al. 2015 (FitNets)
    token       T^2 KL between the teacher and the distillation head    Touvron et al. 2021 (DeiT, soft)
    token_hard  CE of the distillation head and the teacher's class     Touvron et al. 2021 (DeiT, hard)

The hint is the mean squared difference between the inputs of the two classifiers, in units of the teacher's variance.
Where the widths differ, a linear map from the student's features to the teacher's is trained along and dropped
afterwards. Of the two heads of a distilled model the class head learns from the labels and the distillation head from
the teacher; at inference the model returns their mean, as in timm.

`timm.task` has the same losses and was tried: its tasks call a teacher that sees the student's own input tensor at
every step. Here teacher and student differ in resolution, and the teacher's outputs are computed once for all trials
and read from a file, so the losses are implemented here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.nn import functional

from vitsearch.compress.sequential import classifiers
from vitsearch.core.plan import Distillation, Recipe
from vitsearch.errors import StageError
from vitsearch.models.classifier import classifiers_of
from vitsearch.tasks import Task


@dataclass(frozen=True, eq=False)
class TargetBatch:
    """The teacher's outputs for a batch: float32 `outputs` (n, ...) and, for hints, the `features` (n, width)
    that its classifier read."""

    outputs: torch.Tensor
    features: torch.Tensor | None = None


class Method(Protocol):
    """One distillation method; an instance lives as long as one rung."""

    def parameters(self) -> list[nn.Parameter]:
        """Parameters that are trained with the student and dropped afterwards."""
        ...

    def outputs(self, given: Any) -> torch.Tensor:
        """The outputs (n, ...) that are compared with the labels, of what the model gives in training."""
        ...

    def distance(self, outputs: Any, targets: TargetBatch) -> torch.Tensor:
        """The loss of `outputs` against the teacher, a scalar, mean over the batch."""
        ...


@contextmanager
def method(name: Distillation, model: nn.Module, task: Task, recipe: Recipe, width: int | None) -> Iterator[Method]:
    """Set up `model` for the method `name` inside this context. `width` is that of the teacher's features, for
    hints.

    `StageError` `('train', 'unsupported')` for a model without the distillation head that `name` needs.
    """
    if name in ("token", "token_hard"):
        with _separate_heads(model):
            yield _HardToken() if name == "token_hard" else _SoftToken(task, recipe.temperature)
    elif name == "feature" and width is not None:
        with features_of(model) as features:
            yield _Hint(features, _Outputs(task, recipe.temperature), feature_width(model), width)
    else:
        yield _Outputs(task, recipe.temperature)


@contextmanager
def features_of(model: nn.Module) -> Iterator[Callable[[], torch.Tensor]]:
    """Yield a function that returns the last input of the (first) classifier of `model`: (n, width)."""
    seen: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[:] = [inputs[0].flatten(1)]

    hook = classifiers_of(model)[0].register_forward_pre_hook(keep)
    try:
        yield lambda: seen[0]
    finally:
        hook.remove()


class Features(nn.Module):
    """Wraps `model` to return the input of its classifier, (n, width), instead of its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The features (n, width) of `images` (n, channels, height, width)."""
        with features_of(self.model) as features:
            self.model(images)
            return features()


def feature_width(model: nn.Module) -> int:
    """Width of the features of `model`, read from its weights: a cut makes timm's own attribute wrong."""
    weights = [parameter for parameter in classifiers_of(model)[0].parameters() if parameter.ndim == 2]
    return int(weights[0].shape[1])


def supports_token(model: nn.Module) -> bool:
    """Whether `model` has a separate head for distillation."""
    return hasattr(model, "set_distilled_training") and len(classifiers(model)) > 1


@dataclass(frozen=True)
class _Outputs:
    task: Task
    temperature: float

    def parameters(self) -> list[nn.Parameter]:
        return []

    def outputs(self, given: Any) -> torch.Tensor:
        return cast(torch.Tensor, given).float()

    def distance(self, outputs: Any, targets: TargetBatch) -> torch.Tensor:
        return self.task.distance(self.outputs(outputs), targets.outputs, self.temperature)


@dataclass(frozen=True)
class _SoftToken:
    task: Task
    temperature: float

    def parameters(self) -> list[nn.Parameter]:
        return []

    def outputs(self, given: Any) -> torch.Tensor:
        return cast(torch.Tensor, given[0]).float()

    def distance(self, outputs: Any, targets: TargetBatch) -> torch.Tensor:
        return self.task.distance(outputs[1].float(), targets.outputs, self.temperature)


class _HardToken:
    def parameters(self) -> list[nn.Parameter]:
        return []

    def outputs(self, given: Any) -> torch.Tensor:
        return cast(torch.Tensor, given[0]).float()

    def distance(self, outputs: Any, targets: TargetBatch) -> torch.Tensor:
        return functional.cross_entropy(outputs[1].float(), targets.outputs.argmax(dim=1))


class _Hint:
    def __init__(self, features: Callable[[], torch.Tensor], method: _Outputs, student: int, teacher: int) -> None:
        self._features = features
        self._method = method
        self._bridge: nn.Linear | None = None
        if student != teacher:
            self._bridge = nn.Linear(student, teacher, bias=False)
            nn.init.orthogonal_(self._bridge.weight)

    def parameters(self) -> list[nn.Parameter]:
        return [] if self._bridge is None else list(self._bridge.parameters())

    def outputs(self, given: Any) -> torch.Tensor:
        return self._method.outputs(given)

    def distance(self, outputs: Any, targets: TargetBatch) -> torch.Tensor:
        assert targets.features is not None, "hints need the features of the teacher"
        student = self._features().float()
        if self._bridge is not None:
            student = functional.linear(student, self._bridge.to(student.device).weight)
        spread = targets.features.var(dim=0).mean().clamp_min(1e-6)
        return self._method.distance(outputs, targets) + functional.mse_loss(student, targets.features) / spread


@contextmanager
def _separate_heads(model: nn.Module) -> Iterator[None]:
    """Make the model return the logits of both heads in training, instead of their mean."""
    if not supports_token(model):
        raise StageError("train", "unsupported", f"{type(model).__name__} has no distillation head")
    distilled = cast(Any, model)
    distilled.set_distilled_training(True)
    try:
        yield
    finally:
        distilled.set_distilled_training(False)
