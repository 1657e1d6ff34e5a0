"""Whether weights need no training for the user's task, and what those of a classifier do with some of the images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitsearch import backbones
from vitsearch.core.networks import Networks
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.arrays import Labels
from vitsearch.data.validation_sample import ValidationSample
from vitsearch.training import inference

BATCH = 50
PATIENCE_CPU_S = 60.0
"""CPU-seconds after which no further batch of images is classified. Not seconds: a busy machine finds the same."""


@dataclass(frozen=True, eq=False)
class PreprocessingAccuracy:
    """Whether each of `n` images is classified right with a preprocessing, bool (n,)."""

    preprocessing: Preprocessing
    right: Labels

    @property
    def n(self) -> int:
        return len(self.right)

    @property
    def correct(self) -> int:
        return int(self.right.sum())


def judge(
    spec: backbones.ModelSpec, networks: Networks, sample: ValidationSample, ways: Sequence[Preprocessing]
) -> list[PreprocessingAccuracy] | None:
    """The answers of weights to images of `sample`, for each of the `ways` to preprocess: as many as a minute
    of CPU time allows, at least one batch. None for weights that are trained first, as their classifier is another.

    Raises `WeightsError`.
    """
    built = backbones.find(spec.backbone, networks).build(spec)
    if built.head_is_new:
        return None
    right: list[list[Labels]] = [[] for _ in ways]
    begin = time.process_time()
    for start in range(0, len(sample.labels), BATCH):
        images, labels = sample.images[start : start + BATCH], sample.labels[start : start + BATCH]
        for way, answers in zip(ways, right, strict=True):
            logits = inference.predict_logits(built.model, images, spec.resolution, way)
            answers.append(logits.argmax(1) == labels)
        if time.process_time() - begin > PATIENCE_CPU_S:
            break
    return [PreprocessingAccuracy(way, np.concatenate(answers)) for way, answers in zip(ways, right, strict=True)]


def fits(spec: backbones.ModelSpec, networks: Networks) -> bool:
    """Whether weights have every layer of a model; others are trained first.

    Raises `WeightsError`, and `PlanError` for outputs that the model cannot give.
    """
    return not backbones.find(spec.backbone, networks).build(spec).head_is_new
