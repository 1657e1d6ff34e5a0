"""Trains models for two steps each, in a process of its own, so that native code that crashes ends no test run.

    python -X faulthandler train_models.py NAME@PIXELS [NAME@PIXELS ...]

The images have three channels: with one, channels_last and contiguous are the same in memory.
"""

import sys

import numpy as np
import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.training.fine_tune import TrainingSpec, fine_tune

IMAGES, CLASSES = 8, 4
HALVES = (0.5, 0.5, 0.5)
RECIPE = Recipe((0, 1), IMAGES, IMAGES // 2, 1e-4, 0.05, 1, 0.0, 1.0, 0)


def train(name: str, pixels: int) -> None:
    size = ImageSize.square(pixels)
    model = backbones.find(name).build(ModelSpec(name, "none", size, CLASSES)).model
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, pixels, pixels, 3), dtype=np.uint8)
    report = fine_tune(
        model, TrainingSpec(images, np.arange(IMAGES) % CLASSES, size, Preprocessing(HALVES, HALVES), RECIPE, 1.0)
    )
    print(f"{name}@{pixels} {report.steps} steps", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for asked in sys.argv[1:]:
        backbone, _, size = asked.partition("@")
        train(backbone, int(size))
