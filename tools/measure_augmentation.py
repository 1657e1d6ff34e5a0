"""Print what augmentation costs and gains in short fine-tunes, in CPU-seconds of one thread.

    PYTHONPATH=search:evaluators python tools/measure_augmentation.py

The committed base is trained whole, and without half of its heads and three quarters of its FFN channels (the first
ones are kept, no refit). It learns from labels and from itself: from cached logits without augmentation, from the live
teacher with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from vitsearch import backbones
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, ImageData, load
from vitsearch.models.surgery import keep_columns, keep_rows
from vitsearch.space.task import AUGMENTATIONS
from vitsearch.training import fine_tune, inference

NAME, IMAGES = "vit_fmnist_p4", 2048
RECIPE = Recipe((0, 4), IMAGES, 64, 3e-4, 0.05, 8, 0.5, 2.0, 0)


def whole() -> nn.Module:
    return backbones.find(NAME).build(backbones.ModelSpec(NAME, "builtin", ImageSize.square(28), 10, 1)).model


def cut() -> nn.Module:
    model, family = whole(), backbones.find(NAME)
    for index, unit in enumerate(family.units(model)):
        family.slice_heads(model, index, range(unit.heads // 2))
        kept = range(unit.ffn_width // 4)
        keep_rows(cast(Any, unit.fc1), kept)
        keep_columns(cast(Any, unit.fc2), kept)
    return model


def tuned(make: Callable[[], nn.Module], data: ImageData, augmentation: Augmentation, epochs: int) -> tuple[float, Any]:
    """CPU-seconds of the training, and the trained model."""
    pool = fine_tune.training_pool(data.learned, replace(RECIPE, rungs=(0, 1)))
    plain = augmentation.is_none
    seen = Preprocessing(data.mean, data.std)
    logits = (
        inference.predict_logits(whole(), data.train.images, ImageSize.square(28), seen, rows=pool) if plain else None
    )
    task = fine_tune.TrainingSpec(
        images=data.train.images,
        labels=data.train.labels,
        resolution=ImageSize.square(28),
        preprocessing=seen,
        recipe=replace(RECIPE, augmentation=augmentation),
        epochs=epochs,
        teacher_outputs=logits,
        pool=pool,
        live_teacher=None if plain else fine_tune.LiveTeacher(whole(), ImageSize.square(28), seen),
    )
    model, start = make(), time.process_time()
    fine_tune.fine_tune(model, task)
    return time.process_time() - start, model


def main() -> None:
    torch.set_num_threads(1)
    data = load(DataSpec("builtin:fashion-mnist-14k"))
    for make in (whole, cut):
        for epochs in (1, 4):
            for name, augmentation in AUGMENTATIONS.items():
                seconds, model = tuned(make, data, augmentation, epochs)
                logits = inference.predict_logits(
                    model, data.validation.images, ImageSize.square(28), Preprocessing(data.mean, data.std)
                )
                found = inference.accuracy(logits, data.validation.labels)
                result = f"{seconds:.1f} CPU-s, accuracy {found:.4f} of {len(logits)}"
                print(f"{make.__name__}, {epochs} x {IMAGES} images, augmentation {name}: {result}", flush=True)


if __name__ == "__main__":
    main()
