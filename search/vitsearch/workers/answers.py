"""The answers of a stored file on the validation images: its accuracy class by class, computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitsearch.core.pareto import wilson
from vitsearch.core.plan import Plan
from vitsearch.core.preprocessing import ModelView
from vitsearch.data import ImageData
from vitsearch.data.arrays import Labels
from vitsearch.errors import ResourceError
from vitsearch.export import evaluate
from vitsearch.export.device_jobs import device_job
from vitsearch.workers.images import batches

RUN_HERE = ("onnxruntime", "openvino", "litert")
"""Runtimes whose files this machine can run. The files of the others are judged by an ONNX file that is not kept."""


@dataclass(frozen=True)
class StoredFile:
    """An exported model, the plan that it was made for, what it sees of an image, the options that it needs, and the
    images of a run at which its accuracy was computed."""

    path: Path
    plan: Plan
    view: ModelView
    options: Mapping[str, str | int]
    batch: int


@dataclass(frozen=True)
class ClassAccuracy:
    """How many of the ``n`` images of a class are classified correctly, with a 95 % interval; ``confused_with`` is the
    class that most of the others are taken for, None where all are right."""

    name: str
    n: int
    correct: int
    low: float
    high: float
    confused_with: str | None
    confused: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.n

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"accuracy": self.accuracy}


def predicted(file: StoredFile, images: ImageData) -> Labels:
    """The class that the file gives each validation image, int64 (N,), run on the CPU of this machine.

    Raises :class:`~vitsearch.errors.ResourceError` for a file that this machine cannot run.
    """
    runtime = file.plan.deployment.runtime
    if runtime not in RUN_HERE:
        raise ResourceError(
            f"a file of {runtime} cannot be run on this machine; accuracies of single images are computed for "
            f"{', '.join(RUN_HERE)}"
        )
    deployment = replace(file.plan.deployment, provider=evaluate.CPU)
    job = device_job(deployment.with_options(tuple(sorted(file.options.items()))))
    pixels = batches(images.validation.images, file.view)
    found: Labels = evaluate.logits(file.path, pixels, file.batch, job=job).argmax(1)
    return found


def by_class(answers: Labels, labels: Labels, names: Sequence[str]) -> list[ClassAccuracy]:
    """The accuracy of each class that has an image, in the order of the classes."""
    found = []
    for index, name in enumerate(names):
        given = answers[labels == index]
        if not len(given):
            continue
        correct = int((given == index).sum())
        wrong = np.bincount(given[given != index], minlength=len(names))
        worst = int(wrong.argmax())
        confused = int(wrong[worst])
        taken_for = names[worst] if confused else None
        found.append(ClassAccuracy(name, len(given), correct, *wilson(correct, len(given)), taken_for, confused))
    return found
