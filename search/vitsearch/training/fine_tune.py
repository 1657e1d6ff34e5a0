"""The training loop, in torch only: no Ray, no database.

A study draws one pool of training images (`training_pool`), so that the logits of a teacher are computed once for
all plans. Every rung of every plan reads its own stretch of one seeded order of that pool (`training_order`).
Augmented images have no cached logits: the teacher itself is run on the same view (Beyer et al. 2022, "A good teacher
is patient and consistent").

Three things make it fast on a CPU (`tools/measure_training.py` measures it): bf16 autocast where the processor
multiplies bf16, unfused attention (the fused backward is slower up to about 200 tokens), and cached teacher logits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from vitsearch.core.image_size import ImageSize, smallest_enclosing
from vitsearch.core.plan import Distillation, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.arrays import Bytes, Floats, Labels, Truths
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError
from vitsearch.models.classifier import class_count
from vitsearch.models.surgery import unfused_attention
from vitsearch.tasks import CLASSIFICATION, Task, TrainingTargets
from vitsearch.training.augment import Views
from vitsearch.training.average import Average, State
from vitsearch.training.checkpoint import Checkpoint
from vitsearch.training.distillation import Method, TargetBatch, feature_width, features_of
from vitsearch.training.distillation import method as distillation_method
from vitsearch.training.optimizer import (
    Precision,
    autocast,
    checkpointing,
    frozen_front,
    frozen_statistics,
    gradient_scaler,
    optimizer_of,
    schedule_of,
    training_precision,
)
from vitsearch.training.progress import TrainingProgress

MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, eq=False)
class LiveTeacher:
    """A teacher in memory; it sees the images at its own `resolution`, with its own `preprocessing`."""

    model: nn.Module
    resolution: ImageSize
    preprocessing: Preprocessing


AuxiliaryLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""An additional loss from the normalised inputs and the logits of a step, called after its forward pass."""


@dataclass(frozen=True, eq=False)
class TrainingSpec:
    """The training of one rung.

    Data: `images` uint8 (N, H, W, C), possibly a memory map that is read batch by batch, and `labels` (N,), or masks
    uint8 (N, H, W), are a split. `pool` are the rows of it that the study trains on (`None`: all). `resolution` and
    `preprocessing` are those of the model.

    Distillation, by the method `distillation`: `teacher_outputs` float32 (rows of the pool, classes) of the images
    without augmentation, and `teacher_features` (rows of the pool, width) for hints; or a `live_teacher`, which
    augmented images need. `auxiliary_loss` opens a context that gives one more loss, specific to the model.

    Losses: those of `task`. `class_weights` multiply the loss of the labels; what is learned from the
    teacher is not weighted.

    Length: `epochs` after the `epochs_before` of earlier rungs; an epoch is at most `recipe.images_per_epoch`
    images.

    Raises `ValueError` for values that do not fit together.
    """

    images: Bytes
    labels: Truths
    resolution: ImageSize
    preprocessing: Preprocessing
    recipe: Recipe
    epochs: float
    distillation: Distillation = "logits"
    teacher_outputs: Floats | None = None
    teacher_features: Floats | None = None
    epochs_before: float = 0.0
    device: str = "cpu"
    pool: Labels | None = None
    live_teacher: LiveTeacher | None = None
    auxiliary_loss: Callable[[nn.Module], AbstractContextManager[AuxiliaryLoss]] | None = None
    class_weights: tuple[float, ...] | None = None
    task: Task = CLASSIFICATION

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not len(self):
            raise ValueError(
                f"{len(self.images)} images with {len(self.labels)} labels: expected at least one, one label each"
            )
        for what, rows in (("outputs", self.teacher_outputs), ("features", self.teacher_features)):
            if rows is not None and len(rows) != len(self):
                raise ValueError(f"{len(rows)} rows of teacher {what} for {len(self)} images: expected one for each")
        if self.teacher_outputs is not None and not self.recipe.augmentation.is_none:
            raise ValueError("cached teacher outputs do not fit augmented images: pass live_teacher instead")
        if self.epochs <= 0 or self.epochs_before < 0:
            raise ValueError(
                f"epochs {self.epochs} after {self.epochs_before}: epochs must be above 0, epochs_before at least 0"
            )

    def __len__(self) -> int:
        return len(self.images if self.pool is None else self.pool)


@dataclass(frozen=True)
class TrainReport:
    """`images` seen in `steps` steps; losses are means over the first and the last tenth of the steps.

    `precision` is that of the matrix products; `cpu_seconds` are those of this process, all threads (on a GPU the
    time of the host). `average` is the state with averaged weights (`vitsearch.training.average`).
    """

    steps: int
    images: int
    loss_first: float
    loss_last: float
    precision: Precision
    cpu_seconds: float
    average: State = field(repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Normalised `inputs`, `targets` (labels or probabilities), and the outputs of the teacher."""

    inputs: torch.Tensor
    targets: TrainingTargets
    teacher: TargetBatch | None


@dataclass(frozen=True, eq=False)
class _Training:
    """All that changes while a training takes its steps, beside `losses`. Its state is that after a step; the batches
    and the rates of the steps follow from the recipe."""

    model: nn.Module
    method: Method
    average: Average
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def state(self, losses: list[float]) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "method": [parameter.detach() for parameter in self.method.parameters()],
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if _uses_cuda() else None,
            "losses": losses,
        }

    def take_up(self, state: dict[str, Any] | None) -> list[float]:
        """Continue at a `state` in place; returns its losses, none where there is no state of this model."""
        if state is None or _shapes(state["model"]) != _shapes(self.model.state_dict()):
            return []
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            for parameter, value in zip(self.method.parameters(), state["method"], strict=True):
                parameter.copy_(value)
        self.average.take_up(state["average"], len(state["losses"]))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and _uses_cuda():
            torch.cuda.set_rng_state(state["random_cuda"])
        return list(state["losses"])


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _shapes(state: State) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


@dataclass(frozen=True, eq=False)
class _Losses:
    method: Method
    auxiliary_loss: AuxiliaryLoss | None


def training_pool(learned: Labels, recipe: Recipe) -> Labels:
    """Ascending rows of the training split, out of those to learn from, that any rung of `recipe` can see.

    A seeded draw of `images_per_epoch` times the last rung, or all of `learned` where that is less.
    """
    count = recipe.images_per_epoch * max(max(recipe.rungs), 1)
    return np.sort(np.random.default_rng(recipe.seed).permutation(learned)[:count]).astype(np.int64)


def training_order(pool: int, recipe: Recipe, epochs_before: float, epochs: float) -> Labels:
    """Positions in a pool of `pool` images, in the order in which a rung sees them.

    All rungs read one endless stream of seeded permutations. Each rung starts where the one before it stopped, so no
    image comes twice before each has come once.
    """
    per_epoch = min(pool, recipe.images_per_epoch)
    start, stop = round(epochs_before * per_epoch), round((epochs_before + epochs) * per_epoch)
    passes = range(start // pool, -(-max(stop, start + 1) // pool))
    stream = np.concatenate([np.random.default_rng([recipe.seed, p]).permutation(pool) for p in passes])
    offset = start - passes.start * pool
    return stream[offset : offset + max(stop - start, 1)].astype(np.int64)


def fine_tune(model: nn.Module, spec: TrainingSpec, checkpoint: Checkpoint | None = None) -> TrainReport:
    """Train `model` in place and leave it in evaluation mode on `spec.device`. With a `checkpoint`, each epoch that
    ends is kept there, and what is there is not trained again.

    AdamW, linear warm-up then cosine to 0, gradient norm at most 1, with the loss of
    `vitsearch.training.distillation`. On one machine the same spec and weights give the same result. The batches
    of a rung are of nearly equal size, none of 1 (batch norm). `StageError` `('train', 'not_finite')` when a
    loss or a gradient is not finite, `('train', 'unsupported')` when the recipe or the distillation does not fit
    the model.
    """
    recipe, begin, precision = spec.recipe, time.process_time(), training_precision(model, spec.device)
    order = training_order(len(spec), recipe, spec.epochs_before, spec.epochs)
    batches = np.array_split(order, max(1, min(math.ceil(len(order) / recipe.batch_size), len(order) // 2)))
    unfused = unfused_attention(model) if spec.device == "cpu" else nullcontext()
    model.to(spec.device).train()
    with (
        _seeded(recipe.seed, spec),
        unfused,
        frozen_front(model, recipe.frozen_blocks),
        frozen_statistics(model, recipe.frozen_statistics),
        checkpointing(model, recipe.gradient_checkpointing),
        distillation_method(spec.distillation, model, spec.task, recipe, _feature_width(spec)) as method,
        spec.auxiliary_loss(model) if spec.auxiliary_loss else nullcontext() as auxiliary_loss,
    ):
        average = Average(model, len(batches))
        losses = _train(model, spec, batches, _Losses(method, auxiliary_loss), precision, average, checkpoint)
    model.eval()
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    spent = time.process_time() - begin
    return TrainReport(len(losses), len(order), first, last, precision, spent, average.state())


def _feature_width(spec: TrainingSpec) -> int | None:
    """Width of the features of the teacher; `None` for methods without hints."""
    if spec.distillation != "feature":
        return None
    if spec.teacher_features is not None:
        return int(spec.teacher_features.shape[1])
    return None if spec.live_teacher is None else feature_width(spec.live_teacher.model)


def _train(
    model: nn.Module,
    spec: TrainingSpec,
    batches: list[Labels],
    loss_parts: _Losses,
    precision: Precision,
    average: Average,
    checkpoint: Checkpoint | None,
) -> list[float]:
    """Take one step for each batch and add each result to `average`; returns the losses."""
    recipe, views, method = spec.recipe, _views(model, spec), loss_parts.method
    optimizer = optimizer_of(model, recipe)
    if method.parameters():
        optimizer.add_param_group({"params": method.parameters(), "lr": recipe.lr, "weight_decay": 0.0})
    schedule = schedule_of(optimizer, len(batches), recipe)
    scaler = gradient_scaler(spec.device, precision)
    training = _Training(model, method, average, optimizer, scaler)
    losses = training.take_up(checkpoint.load() if checkpoint else None)
    progress = TrainingProgress(spec.epochs, len(batches), spec.task.metrics[0].name, len(losses))
    for step, rows in list(enumerate(batches))[len(losses) :]:
        schedule.step_update(step)
        optimizer.zero_grad(set_to_none=True)
        batch = _batch(spec, views, rows, precision)
        with autocast(spec.device, precision):
            outputs = model(batch.inputs)
            auxiliary = loss_parts.auxiliary_loss
            added = auxiliary(batch.inputs, method.outputs(outputs)) if auxiliary else 0.0
        loss = _loss(method, outputs, batch, spec) + added
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        overflow = scaler.is_enabled() and scaler.get_scale() > 1  # the scaler skips this step and lowers its scale
        losses.append(_finite(loss, norm, overflow, f"step {step + 1} of {len(batches)}", recipe.lr))
        scaler.step(optimizer)
        scaler.update()
        average.update(model)
        teacher = None if batch.teacher is None else batch.teacher.outputs
        figure = spec.task.batch_figure(method.outputs(outputs).detach(), batch.targets, teacher)
        progress.step(figure, len(batch.inputs))
        if checkpoint and _ends_epoch(step, len(batches), spec.epochs):
            checkpoint.save(training.state(losses))
    return losses


def _ends_epoch(step: int, steps: int, epochs: float) -> bool:
    return step + 1 == steps or math.floor((step + 1) / steps * epochs) > math.floor(step / steps * epochs)


def _views(model: nn.Module, spec: TrainingSpec) -> Views | None:
    """Augmented views, of the size that holds the resolutions of student and teacher; `None` without augmentation."""
    if spec.recipe.augmentation.is_none:
        return None
    size = smallest_enclosing([model.resolution for model in (spec, spec.live_teacher) if model is not None])
    return Views(spec.recipe.augmentation, size, classes=class_count(model))


def _batch(spec: TrainingSpec, views: Views | None, positions: Labels, precision: Precision) -> _Batch:
    """The batch of the images at `positions` of the pool."""
    rows = positions if spec.pool is None else spec.pool[positions]
    images, targets = spec.images[rows], torch.tensor(spec.labels[rows])
    if views is not None:
        images, targets = views.draw(images, spec.labels[rows])
    inputs = to_tensor(images, spec.resolution, _of_views(spec.preprocessing, spec), spec.device)
    compared = TrainingTargets(targets.to(spec.device), spec.recipe.label_smoothing, spec.class_weights)
    return _Batch(inputs, compared, _teacher_targets(spec, positions, images, precision))


def _of_views(preprocessing: Preprocessing, spec: TrainingSpec) -> Preprocessing:
    """How a model reads what was drawn: a random crop is not cut again."""
    return replace(preprocessing, crop_share=1.0) if spec.recipe.augmentation.crop < 1.0 else preprocessing


def _teacher_targets(spec: TrainingSpec, positions: Labels, images: Bytes, precision: Precision) -> TargetBatch | None:
    """The outputs of the teacher: cached ones if there are any, else those of the live teacher."""
    if not spec.recipe.distillation_weight and not spec.task.has_reference:
        return None
    if spec.teacher_outputs is not None:
        features = None if spec.teacher_features is None else _on(spec.teacher_features[positions], spec.device)
        return TargetBatch(_on(spec.teacher_outputs[positions], spec.device), features)
    return None if spec.live_teacher is None else _live_targets(spec.live_teacher, spec, images, precision)


def _on(rows: Floats, device: str) -> torch.Tensor:
    return torch.tensor(rows, device=device, dtype=torch.float32)


def _live_targets(teacher: LiveTeacher, spec: TrainingSpec, images: Bytes, precision: Precision) -> TargetBatch:
    model = teacher.model.to(spec.device).eval()
    inputs = to_tensor(images, teacher.resolution, _of_views(teacher.preprocessing, spec), spec.device)
    hints = features_of(model) if spec.distillation == "feature" else nullcontext()
    with torch.no_grad(), autocast(spec.device, precision), hints as features:
        outputs: torch.Tensor = model(inputs)
    return TargetBatch(outputs.float(), None if features is None else features().float())


def _loss(method: Method, outputs: Any, batch: _Batch, spec: TrainingSpec) -> torch.Tensor:
    loss = spec.task.loss(method.outputs(outputs), batch.targets)
    if batch.teacher is None:
        assert loss is not None, f"{spec.task.kind} learns from a reference"
        return loss
    distance = method.distance(outputs, batch.teacher)
    if loss is None:
        return distance
    weight = spec.recipe.distillation_weight
    return (1 - weight) * loss + weight * distance


def _finite(loss: torch.Tensor, norm: torch.Tensor, overflow: bool, where: str, lr: float) -> float:
    value = float(loss.detach())
    if math.isfinite(value) and (overflow or math.isfinite(float(norm))):
        return value
    seen = f"loss {value}, gradient norm {float(norm)} at {where}"
    raise StageError("train", "not_finite", f"{seen}; a lower lr than {lr:g} may help")


@contextmanager
def _seeded(seed: int, spec: TrainingSpec) -> Iterator[None]:
    """Seed dropout and drop path inside this context, and restore the random state of the caller."""
    device = torch.device(spec.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
