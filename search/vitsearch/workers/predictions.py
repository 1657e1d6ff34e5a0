"""The outputs of a stored file for the validation images, computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vitsearch.core.plan import Plan
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.targets import TARGETS
from vitsearch.data import ImageData
from vitsearch.data.arrays import Floats
from vitsearch.errors import ResourceError
from vitsearch.export import evaluate
from vitsearch.export.device_jobs import device_job
from vitsearch.stages.parts.images import batches


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
    run_here = [target.name for target in TARGETS.values() if target.runs_here]
    if runtime not in run_here:
        raise ResourceError(
            f"a file of {runtime} cannot be run on this machine; outputs for single images are computed for "
            f"{', '.join(run_here)}"
        )
    deployment = replace(file.plan.deployment, provider=evaluate.CPU)
    job = device_job(deployment.with_options(tuple(sorted(file.options.items()))))
    pixels = batches(images.validation.images, file.view)
    return evaluate.logits(file.path, pixels, file.batch, job=job)
