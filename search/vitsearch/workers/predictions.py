"""The outputs of a stored file for the validation images, computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vitsearch.core.plan import Plan
from vitsearch.core.preprocessing import ModelView
from vitsearch.data import ImageData
from vitsearch.data.arrays import Floats
from vitsearch.errors import ResourceError
from vitsearch.export import evaluate
from vitsearch.export.device_jobs import device_job
from vitsearch.workers.images import batches

RUN_HERE = ("onnxruntime", "openvino", "litert", "executorch")
"""Runtimes whose files this machine can run. The files of the others are judged by an ONNX file that is not kept."""


@dataclass(frozen=True)
class RunnableFile:
    """An exported model, the plan that it was made for, what it sees of an image, the options that it needs, and the
    images of a run at which its accuracy was computed."""

    path: Path
    plan: Plan
    view: ModelView
    options: Mapping[str, str | int]
    batch: int


def outputs_of(file: RunnableFile, images: ImageData) -> Floats:
    """The outputs of the file for each validation image, float32 (N, ...), run on the CPU of this machine.

    Raises `ResourceError` for a file that this machine cannot run.
    """
    runtime = file.plan.deployment.runtime
    if runtime not in RUN_HERE:
        raise ResourceError(
            f"a file of {runtime} cannot be run on this machine; outputs for single images are computed for "
            f"{', '.join(RUN_HERE)}"
        )
    deployment = replace(file.plan.deployment, provider=evaluate.CPU)
    job = device_job(deployment.with_options(tuple(sorted(file.options.items()))))
    pixels = batches(images.validation.images, file.view)
    return evaluate.logits(file.path, pixels, file.batch, job=job)
