"""What a training is told: its images, its labels, its teacher and its losses."""

from __future__ import annotations

import numpy as np

from vitsearch.core.class_weights import NONE, class_weights
from vitsearch.core.plan import Recipe
from vitsearch.data import ImageData
from vitsearch.data.arrays import Floats
from vitsearch.data.masks import label_counts
from vitsearch.stages.job import Source, Workspace
from vitsearch.stages.parts.models import base_model
from vitsearch.storage.files import Store
from vitsearch.training import fine_tune


def live_teacher(source: Source, workspace: Workspace) -> fine_tune.LiveTeacher:
    """A teacher that is asked in each step."""
    return fine_tune.LiveTeacher(base_model(source, workspace), source.resolution, source.preprocessing)


def class_weights_of(recipe: Recipe, images: ImageData) -> tuple[float, ...] | None:
    """The weights of a recipe, by the images that a study learns from; None for equal ones, whatever the labels are."""
    if recipe.class_weights == NONE:
        return None
    counts = label_counts(images.train.labels, images.learned, len(images.class_names))
    return class_weights(recipe.class_weights, images.class_names, counts.tolist())


def mapped(store: Store, sha256: str | None) -> Floats | None:
    """A stored array, memory-mapped, so that all trials of a machine share one copy in memory."""
    return None if sha256 is None else np.load(store.get(sha256), mmap_mode="r")
