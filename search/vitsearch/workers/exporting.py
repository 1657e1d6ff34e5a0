"""Export of a model at the precision that a job names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.compress.sparsity import sparsity
from vitsearch.core.plan import Deployment
from vitsearch.data.arrays import Floats
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, deploy, evaluate
from vitsearch.models.graph import OPSET
from vitsearch.pipeline import jobs
from vitsearch.workers.images import EVALUATION_BATCH, blank, drawn

ROUNDED_PARITY_LIMIT = 0.05
"""Allowed difference between an int8 file and the model that rounds in torch, of the largest logit."""


def deployed(model: nn.Module, job: jobs.ScreenJob | jobs.ExportJob) -> nn.Module:
    """The form of ``model`` that ships; :class:`StageError` when its zeros are lost."""
    source = job.spec.source
    shape = tuple(blank(source.resolution, job.workspace).shape)
    ships = deploy.deployed(model, backbones.find(source.backbone), shape)
    if job.spec.calibrations.sparsity is not None:
        sparsity.verify(ships, job.spec.resolved.weight_sparsity)
    return ships


def export(model: nn.Module, job: jobs.ScreenJob | jobs.ExportJob, folder: Path) -> tuple[Path, float]:
    """Write the file of ``model`` at the precision of ``job`` into ``folder``; returns its path and its parity."""
    inputs = drawn(job.workspace, job.calibration, job.spec.source.resolution).numpy()
    return write(model, inputs, job.deployment, folder, job.opset, job.spec.resolved.fp32_layers)


def write(
    model: nn.Module,
    inputs: Floats,
    deployment: Deployment,
    folder: Path,
    opset: int = OPSET,
    fp32_layers: Sequence[str] = (),
) -> tuple[Path, float]:
    """Write the file of ``model``, calibrated on ``inputs`` (n, channels, height, width), into ``folder``; returns its
    path and its parity. Linear layers named in ``fp32_layers`` stay in fp32 where precisions are mixed."""
    plain, final = folder / "fp32.onnx", folder / "model.onnx"
    with fake_quant.unrounded(model):
        report = EXPORTERS.get(deployment.runtime)().export(model, (1, *inputs.shape[1:]), plain, opset)
    learned, left = fake_quant.learned(model), fake_quant.weights_of(model, fp32_layers)
    quantize.quantize(plain, final, deployment.precision, inputs, learned, left)
    return final, _rounded_parity(model, final, inputs) if learned else report.parity_rel


def _rounded_parity(model: nn.Module, path: Path, inputs: Floats) -> float:
    """Largest difference between the logits of the file and of the model that rounds in torch, over the largest logit.

    A value between two steps may be rounded either way, so the limit is far above that of fp32.
    """
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    relative = float(np.abs(evaluate.logits(path, inputs, EVALUATION_BATCH) - expected).max() / np.abs(expected).max())
    if not relative <= ROUNDED_PARITY_LIMIT:
        found = f"onnxruntime and the model trained for int8 differ by {relative:.1e} of the largest logit"
        raise StageError("export", "parity", f"{found}, allowed {ROUNDED_PARITY_LIMIT:.0e}")
    return relative
