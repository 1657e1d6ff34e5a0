"""The base of a backbone: its starting weights, trained for the task unless they are finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.keys import DataIdentity
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.stage import Stage
from vitsearch.stages.job import DistillationTargets, Source, SourceJob, Workspace
from vitsearch.storage.ledger import TrainingRow
from vitsearch_agent.base.canonical_json import digest

if TYPE_CHECKING:
    from torch import nn

    from vitsearch.data import ImageData


@dataclass(frozen=True)
class Base:
    """An unpruned model with the head of the task. `qualities` are its metrics on the `n` images of the validation
    split (torch), `note` what there is to say of the file that it started from."""

    weights_sha256: str
    qualities: Mapping[str, float]
    n: int
    note: str | None = None

    @classmethod
    def of_row(cls, row: TrainingRow) -> Base:
        return cls(row.checkpoint_sha256 or "", row.qualities, row.n)

    def row(self, key: str, rung: int) -> TrainingRow:
        return TrainingRow(key, rung, dict(self.qualities), None, self.n, self.weights_sha256)


def base_key(source: Source, starting_digest: str, recipe: Recipe, data: DataIdentity) -> str:
    """The key of a base.

    Args:
        source: The starting weights.
        starting_digest: Of their file.
        recipe: How they are trained where their classifier is new.
        data: The images that they are trained on.

    Returns:
        A SHA-256.
    """
    return digest(
        {
            "stage": Stage.BASE,
            "backbone": source.backbone,
            "view": source.view.in_keys(),
            "start": starting_digest,
            "recipe": recipe.in_keys(),
            "data": data.in_keys(),
        }
    )


@dataclass(frozen=True)
class BaseJob(SourceJob[Base]):
    """Load the starting weights; train them when their head is new. `targets` and `truth_sha256` are the outputs of the
    reference of the study for the images to learn from and for the validation images, None where the task has none and
    for the reference itself. `checkpoint` is the file that keeps each epoch of the training until it is finished."""

    stage = Stage.BASE
    recipe: Recipe
    targets: DistillationTargets | None = None
    truth_sha256: str | None = None
    checkpoint: Path | None = None

    def work(self) -> Base:
        from vitsearch.backbones.weights import note_on
        from vitsearch.stages.parts.images import load_data, predict, validation_truth
        from vitsearch.stages.parts.models import family_of, model_spec
        from vitsearch.stages.parts.weights import save_weights
        from vitsearch.tasks import CLASSIFICATION

        images, task = load_data(self.workspace), self.workspace.task.find()
        built = family_of(self.source, self.workspace).build(model_spec(self.source, self.workspace))
        if built.head_is_new or not _is_finished(self.source, self.workspace):
            _train(built.model, images, self)
        qualities = _shipped_qualities(self.source, images) if task == CLASSIFICATION else None
        if qualities is None:
            outputs = predict(built.model, images.validation.images, self.source.view)
            truth = validation_truth(self.workspace, self.truth_sha256)
            if task.has_reference and truth.reference is None:
                truth = replace(truth, reference=outputs)
            qualities = task.judge(outputs, truth).values
        weights = save_weights(built.model.cpu(), self.workspace.store)
        return Base(weights, qualities, len(images.validation.images), note_on(self.source.weights))


def _shipped_qualities(source: Source, images: ImageData) -> Mapping[str, float] | None:
    """Those that ship with a built-in base, on the data set that ships too."""
    from vitsearch.backbones.builtin import BUILTIN, JUDGED_ON

    base = BUILTIN.get(source.backbone)
    if source.weights != "builtin" or base is None or source.view != ModelView(base.resolution, base.preprocessing):
        return None
    return base.qualities if images.identity.fingerprint == JUDGED_ON.fingerprint else None


def _is_finished(source: Source, workspace: Workspace) -> bool:
    """Whether starting weights whose head fits need no training of their own.

    A head of the right width is not enough: weights of the hub and built-in ones know their own classes only. A user's
    file is assumed to fit. Where there is a reference, it alone is finished.
    """
    from vitsearch.backbones.builtin import BUILTIN
    from vitsearch.stages.parts.images import load_data
    from vitsearch.tasks import CLASSIFICATION

    if workspace.reference is not None:
        return (source.backbone, source.weights) == (workspace.reference.backbone, workspace.reference.weights)
    if source.weights == "builtin":
        is_classifier = workspace.task.kind == CLASSIFICATION.kind
        return is_classifier and BUILTIN[source.backbone].class_names == load_data(workspace).class_names
    return source.weights != "hub"


def _train(model: nn.Module, images: ImageData, job: BaseJob) -> None:
    """Train on all images to learn from, with labels, or by the outputs of the reference of the study; a recipe with 0
    images per epoch uses all in each."""
    from vitsearch.stages.parts.images import torch_device
    from vitsearch.stages.parts.training import class_weights_of, live_teacher, mapped
    from vitsearch.training import fine_tune
    from vitsearch.training.checkpoint import Checkpoint

    recipe = replace(job.recipe, images_per_epoch=job.recipe.images_per_epoch or len(images.learned))
    teacher = None if job.targets is None else job.targets.live_teacher
    training = fine_tune.TrainingSpec(
        images=images.train.images,
        labels=images.train.labels,
        resolution=job.source.resolution,
        preprocessing=job.source.preprocessing,
        recipe=recipe,
        epochs=recipe.rungs[-1],
        device=torch_device(),
        pool=images.learned,
        class_weights=class_weights_of(recipe, images),
        task=job.workspace.task.find(),
        teacher_outputs=None if job.targets is None else mapped(job.workspace.store, job.targets.outputs_sha256),
        live_teacher=live_teacher(teacher, job.workspace) if teacher else None,
    )
    fine_tune.fine_tune(model, training, None if job.checkpoint is None else Checkpoint(job.checkpoint))
