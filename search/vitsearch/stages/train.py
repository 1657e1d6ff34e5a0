"""A rung: a compressed model is fine-tuned from the rung before."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from vitsearch.core.plan import Recipe
from vitsearch.core.stage import Stage
from vitsearch.stages.job import CompressedJob, DistillationTargets, Evaluation, Reference
from vitsearch.storage.ledger import TrainingRow

if TYPE_CHECKING:
    from torch import nn

    from vitsearch.training import fine_tune

Kept = Literal["start", "last", "average"]
"""The state that a rung ends with: the weights of its start, those of its last step, or the average of its steps."""


@dataclass(frozen=True)
class Trained:
    evaluation: Evaluation
    checkpoint_sha256: str
    steps: int
    kept: Kept

    def row(self, key: str, rung: int) -> TrainingRow:
        return self.evaluation.row(key, rung, self.checkpoint_sha256)


@dataclass(frozen=True)
class TrainJob(CompressedJob[Trained]):
    """Fine-tune from rung `start`, whose evaluation is `before`, to rung `end` (epochs).

    Of the start, the last weights and their average the rung keeps what is best on the holdout by `keeps`: `nearest` to
    the base, or `best` in the first metric of the task, for what learns of a better model than the base and so leaves
    it."""

    stage = Stage.TRAIN
    recipe: Recipe
    start: int
    end: float
    checkpoint_sha256: str | None
    targets: DistillationTargets
    reference: Reference
    before: Evaluation
    keeps: Literal["nearest", "best"] = field(default="nearest", kw_only=True)

    def work(self) -> Trained:
        from vitsearch.stages.parts.models import compressed

        return self._tuned(compressed(self.spec, self.workspace, self.checkpoint_sha256), self.before)

    def _tuned(self, model: nn.Module, before: Evaluation) -> Trained:
        """Train, and keep the start, the last weights or their average, by what the job says."""
        from vitsearch.compress import sparsity
        from vitsearch.stages.parts.judging import judged
        from vitsearch.stages.parts.weights import save_weights
        from vitsearch.training import average, fine_tune

        start = average.copy_of(model)
        training = _training_spec(self)
        with sparsity.frozen_zeros(model) if self.spec.calibrations.sparsity else nullcontext():
            report = fine_tune.fine_tune(model, training)
        last, after = average.copy_of(model), judged(model, self, self.reference)
        model.load_state_dict(report.average)
        ends: dict[Kept, tuple[Evaluation, average.State]] = {
            "start": (before, start),
            "last": (after, last),
            "average": (judged(model, self, self.reference), report.average),
        }
        kept = min(ends, key=lambda end: _distance(ends[end][0], self))
        evaluation, state = ends[kept]
        model.load_state_dict(state)
        return Trained(evaluation, save_weights(model.cpu(), self.workspace.store), report.steps, kept)


def _distance(evaluation: Evaluation, job: TrainJob) -> tuple[float, float]:
    """How far an end of a training is from what it is for."""
    if job.keeps == "nearest":
        return evaluation.divergence, 0.0
    metric = job.workspace.task.find().metrics[0]
    value = evaluation.qualities.get(metric.name)
    return math.inf if value is None else metric.error(value), evaluation.divergence


def _training_spec(job: TrainJob) -> fine_tune.TrainingSpec:
    """How a rung is trained."""
    from vitsearch.stages.parts.images import load_data, torch_device
    from vitsearch.stages.parts.training import class_weights_of, live_teacher, mapped
    from vitsearch.training import fine_tune

    images = load_data(job.workspace)
    targets, teacher, store = job.targets, job.targets.live_teacher, job.workspace.store
    return fine_tune.TrainingSpec(
        images=images.train.images,
        labels=images.train.labels,
        resolution=job.spec.source.resolution,
        preprocessing=job.spec.source.preprocessing,
        recipe=job.recipe,
        epochs=job.end - job.start,
        distillation=targets.method,
        teacher_outputs=mapped(store, targets.outputs_sha256),
        teacher_features=mapped(store, targets.features_sha256),
        epochs_before=job.start,
        device=torch_device(),
        pool=fine_tune.training_pool(images.learned, job.recipe),
        live_teacher=live_teacher(teacher, job.workspace) if teacher else None,
        auxiliary_loss=_auxiliary_loss(job),
        class_weights=class_weights_of(job.recipe, images),
        task=job.workspace.task.find(),
    )


def _auxiliary_loss(
    job: TrainJob,
) -> Callable[[nn.Module], AbstractContextManager[fine_tune.AuxiliaryLoss]] | None:
    """The loss of networks that choose tokens, against the unpruned model at the same resolution; `None` without
    any."""
    if job.spec.calibrations.token_predictors is None:
        return None
    from vitsearch.compress import tokens
    from vitsearch.stages.parts.models import base_model

    unpruned, task = base_model(job.spec.source, job.workspace), job.workspace.task.find()
    return partial(tokens.auxiliary_loss, unpruned=unpruned, task=task)
