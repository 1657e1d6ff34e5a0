"""The files of a bundle that are compiled for chips, each compared with the CPU in the emulation of its NPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitsearch.core.plan import Deployment, plan_text
from vitsearch.core.precisions import is_npu
from vitsearch.errors import ResourceError, StageError, StudyError
from vitsearch.export import ExportedFile, converters, evaluate
from vitsearch.pipeline.progress import Progress
from vitsearch.ship.bundled_model import BundledModel
from vitsearch.ship.shipped_context import ShippedContext, agreement
from vitsearch.targets.onnxruntime.qnn import contexts
from vitsearch.targets.onnxruntime.qnn.chips import Chip, chip_of
from vitsearch.tasks import CLASSIFICATION
from vitsearch_agent.verify.preprocessing import prepare

IMAGES = 20
"""Of the bundle's; the emulation takes .1 to .3 s for an image of 28 pixels."""


def chips_of(names: Sequence[str]) -> tuple[Chip, ...]:
    """The chips to compile for, each once; `UnknownName` for another name, `ResourceError` without the compiler."""
    chips = tuple(chip_of(name) for name in dict.fromkeys(names))
    if chips and (reason := converters.converter_missing(contexts.NAME)):
        raise ResourceError(f"--chip: {reason}")
    return chips


def require_npu(name: str, deployment: Deployment) -> None:
    """Raise `StudyError` for a model whose file is not one for an NPU."""
    if not is_npu(deployment.runtime, deployment.provider):
        runs = f"{name} is a file for {deployment.runtime} on {deployment.provider}"
        needed = "--chip needs a model that was searched with backend onnxruntime and provider qnn"
        raise StudyError(f"{runs}; {needed}")


def shipped_contexts(
    model: BundledModel, chips: Sequence[Chip], folder: Path, progress: Progress
) -> tuple[ShippedContext, ...]:
    """Compile the file of a model for each chip into `folder`, and compare the first images of its bundle."""
    if not chips:
        return ()
    python = contexts.installed_python()
    images = prepare(np.load(model.images, mmap_mode="r")[:IMAGES], model.preprocessing)
    path, job = evaluate.judging_job(ExportedFile(model.path), model.deployment)
    expected = evaluate.logits(path, images, model.shipped.batch, job=job)
    made = []
    for chip in chips:
        progress.note(f"compiling for {chip.name} ({chip.product}) and running {len(images)} images in its emulation")
        try:
            context = contexts.compiled(python, model.path, chip, folder / f"{chip.name}.onnx")
            seen = agreement(expected, contexts.outputs(python, context, images), model.task == CLASSIFICATION)
        except StageError as error:
            raise error.about(f"{chip.name}, {plan_text(model.final.plan)}") from error
        made.append(ShippedContext(context, seen))
    return tuple(made)
