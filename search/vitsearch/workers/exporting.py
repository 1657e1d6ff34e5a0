"""Export of a model at the precision that a job names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.compress.sparsity import sparsity
from vitsearch.data.arrays import Floats
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, deploy, evaluate
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
    resolution = job.spec.source.resolution
    plain, final = folder / "fp32.onnx", folder / "model.onnx"
    shape = tuple(blank(resolution, job.workspace).shape)
    with fake_quant.unrounded(model):
        report = EXPORTERS.get(job.deployment.runtime)().export(model, shape, plain, job.opset)
    inputs = drawn(job.workspace, job.calibration, resolution).numpy()
    learned = fake_quant.learned(model)
    left = fake_quant.weights_of(model, job.spec.resolved.fp32_layers)
    quantize.quantize(plain, final, job.deployment.precision, inputs, learned, left)
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
