"""Export of a model for the deployment that a job names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vitsearch.compress import sequential, sparsity
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.networks import exporter_for
from vitsearch.core.onnx_exporters import TORCHSCRIPT
from vitsearch.data import ImageData
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, ExportedFile, ExportTask, deploy, evaluate, metadata, structure
from vitsearch.export.base import PARITY_LIMIT
from vitsearch.export.float_weights import float_weights
from vitsearch.export.processor import saturates_int8
from vitsearch.models import map_head
from vitsearch.models.onnx_model import OnnxModel
from vitsearch.stages.job import ExportedGraph, FileJob, Workspace
from vitsearch.stages.parts.images import blank, drawn, load_data
from vitsearch.stages.parts.models import family_of
from vitsearch.storage.files import FileStore, Store
from vitsearch.tasks import CLASSIFICATION

ROUNDED_PARITY_LIMIT = 0.05
"""Allowed difference between an int8 file and the model that rounds in torch, of the largest logit: a value between
two steps may be rounded either way."""


def deployed(model: nn.Module, job: FileJob[Any]) -> nn.Module:
    """The form of `model` that ships; `StageError` when its zeros are lost."""
    source = job.spec.source
    shape = tuple(blank(source.resolution, job.workspace).shape)
    ships = deploy.deployed(model, family_of(source, job.workspace), shape)
    if job.spec.calibrations.sparsity is not None:
        sparsity.verify(ships, job.spec.resolved.weight_sparsity)
    return ships


def export(model: nn.Module, job: FileJob[Any], folder: Path) -> Written:
    """Write the file of `model` for the deployment of `job` into `folder`, with its metadata."""
    source, images = job.spec.source, load_data(job.workspace)
    inputs = drawn(job.workspace, job.calibration, source.view).numpy()
    family = family_of(source, job.workspace).family
    fp32_layers = tuple(dict.fromkeys((*job.spec.resolved.fp32_layers, *float_layers(model))))
    exporter = exporter_for(source.backbone, job.workspace.networks)
    output = job.workspace.task.find().output
    task = ExportTask(family, job.deployment, inputs, job.opset, fp32_layers, job.runtime_version, exporter, output)
    written = write(model, task, folder)
    settings = source.view.settings(images.image_size, images.channels)
    described = metadata.describe(job.artifact_key, settings, _class_names(job.workspace, images))
    metadata.write(written.file.path, described)
    return written


def float_layers(model: nn.Module) -> list[str]:
    """Layers that int8 leaves as they are: the classifiers of models that give maps, whose logits decide the class of
    each position alone. A classifier of images is covered."""
    if not map_head.gives_maps(model):
        return []
    classifiers = sequential.classifiers(model)
    return [name for name, layer in model.named_modules() if layer in classifiers]


def _class_names(workspace: Workspace, images: ImageData) -> tuple[str, ...]:
    """Of outputs that are classes; a file of another task names none."""
    return images.class_names if workspace.task.kind == CLASSIFICATION.kind else ()


@dataclass(frozen=True)
class Written:
    """A file, open as it is judged on this machine; its largest difference to torch over the largest logit, the digest
    of its structure, if that is known, the name of torch's exporter that wrote its ONNX file, and its `float_weights`
    (`vitsearch.export.float_weights`)."""

    file: ExportedFile
    opened: evaluate.OpenFile
    parity: float
    structure: str | None = None
    exporter: str = TORCHSCRIPT.name
    float_weights: Mapping[str, int] = field(default_factory=dict)


def write(model: nn.Module, task: ExportTask, folder: Path) -> Written:
    """Write the file of `model` into `folder`, and compare it with torch.

    `StageError` `export` when it cannot be written, when its logits are not finite, or when it differs from
    torch by more than rounding explains.
    """
    deployment = task.deployment
    file = EXPORTERS.get(deployment.runtime)().export(model, task, folder)
    path, judge = evaluate.judging_job(file, deployment)
    batch = deployment.batch or len(task.images)
    opened = evaluate.open_file(path, batch, job=judge)
    logits = opened.logits(task.images)
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(task.images)).numpy()
    if not (np.isfinite(logits).all() and np.isfinite(expected).all()):
        raise StageError("export", "not_finite", "the logits of the calibration images have NaN or infinity")
    relative = float(np.abs(logits - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
    limit = math.inf if file.rounds_more else _parity_limit(model, deployment.precision)
    if relative > limit:
        differ = f"{deployment.runtime} and torch differ by {relative:.1e} of the largest logit, allowed {limit:.0e}"
        raise StageError("export", "parity", differ)
    floats = float_weights(file, deployment)
    return Written(file, opened, relative, structure.digest_of(file, deployment), task.exporter.name, floats)


def stored_graph(store: FileStore | Store, written: Written, macs_m: float, params_m: float) -> ExportedGraph:
    """Put a written file into a store."""
    stored = store.put_model(written.file.path)
    described = written.parity, written.file.options, written.structure
    graph = ExportedGraph(stored.sha256, stored.size_bytes, macs_m, params_m, *described)
    return replace(graph, exporter=written.exporter, float_weights=written.float_weights)


def _parity_limit(model: nn.Module, precision: str) -> float:
    """Files of post-training quantization may differ by any amount: their accuracy decides. So may all int8 files on a
    processor that saturates, which says nothing about the one of the device."""
    if isinstance(model, OnnxModel) and model.is_quantized:
        return math.inf
    if fake_quant.quantized(model):
        return math.inf if saturates_int8() else ROUNDED_PARITY_LIMIT
    return PARITY_LIMIT if precision == "fp32" else math.inf
