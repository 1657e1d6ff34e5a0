"""fp32 ONNX files by torch's exporters, checked in onnxruntime. The files of most runtimes start from one.

`vitsearch.core.onnx_exporters` has which of the two exporters writes an architecture.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT, OnnxExporter
from vitsearch.errors import StageError
from vitsearch.export import evaluate
from vitsearch.export.base import PARITY_LIMIT
from vitsearch.export.graph import symbolics
from vitsearch.export.graph.module_rewrites import export_forms
from vitsearch.export.graph.simplify import simplify
from vitsearch.export.graph.user_file import write_file
from vitsearch.models.onnx_format import INPUT, OUTPUT
from vitsearch.models.onnx_model import OnnxModel
from vitsearch.models.surgery import unfused_attention

OPEN_BATCHES = (1, 3)
"""The batches at which a file with an open batch is compared with torch."""
OPEN_EXAMPLE = 2
"""The batch with which `dynamo` captures a model of an open batch; it takes a size of 1 for a constant."""
BATCH = "batch"
"""The name of an open batch in the file."""


@dataclass(frozen=True)
class OnnxReport:
    """`parity_max_abs` is the largest difference between the logits of the file and of torch, `parity_rel` the same
    over the largest logit; `seconds_cpu` covers export and check together."""

    parity_max_abs: float
    parity_rel: float
    opset: int
    seconds_cpu: float
    nodes: int
    size_bytes: int


def write_onnx(
    model: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    opset: int | None = None,
    batch: int | None = None,
    exporter: OnnxExporter = TORCHSCRIPT,
) -> OnnxReport:
    """Write `model` to `path` for images of `shape` (its first number does not count) and `batch` of them in
    a run; None for any number. `opset` None is that of the `exporter`.

    The file takes float32 `images` and gives float32 `logits`. The model is not changed. `StageError`
    `export` when the model cannot be exported (`crash`), when the exporter does not write that opset (`unsupported`),
    when the file disagrees with torch (`parity`), or when logits are not finite (`not_finite`).
    """
    begin = time.process_time()
    convert(model, shape, path, opset, batch, exporter)
    written = onnx.load(path)
    onnx.checker.check_model(written)
    absolute, relative = _parity(model, shape[1:], path, OPEN_BATCHES if batch is None else (batch,))
    seconds, nodes = time.process_time() - begin, len(written.graph.node)
    return OnnxReport(absolute, relative, opset or exporter.opset, seconds, nodes, path.stat().st_size)


def convert(
    model: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    opset: int | None = None,
    batch: int | None = None,
    exporter: OnnxExporter = TORCHSCRIPT,
    output: str = OUTPUT,
) -> None:
    """As `write_onnx`, without comparing the file with torch; with few nodes (`.simplify`), and another name of the
    output."""
    if isinstance(model, OnnxModel):
        write_file(model, shape, path, opset, batch)
        return
    opset = opset or exporter.opset
    if opset < exporter.oldest_opset:
        needed = f"this architecture is exported with opset {exporter.oldest_opset} or newer"
        raise StageError("export", "unsupported", f"{needed}, but the runtime reads at most {opset}")
    was_training = model.training
    write = _write_dynamo if exporter == DYNAMO else _write_torchscript
    try:
        write(model.eval(), shape, path, opset, batch, output)
        simplify(path)
    finally:
        model.train(was_training)


def _write_torchscript(
    model: nn.Module, shape: tuple[int, ...], path: Path, opset: int, batch: int | None, output: str
) -> None:
    symbolics.register()
    with warnings.catch_warnings(), unfused_attention(model), export_forms(model), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)  # from this exporter, which is chosen on purpose
        warnings.simplefilter("ignore", TracerWarning)  # from timm's checks of shapes
        warnings.filterwarnings(
            "ignore", message="Constant folding - Only steps=1"
        )  # from padding; onnxruntime folds it
        try:
            torch.onnx.export(
                model,
                (torch.zeros(batch or 1, *shape[1:]),),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[output],
                dynamic_axes={INPUT: {0: BATCH}, output: {0: BATCH}} if batch is None else None,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            raise StageError("export", "crash", str(error).strip().splitlines()[0]) from error


def _write_dynamo(
    model: nn.Module, shape: tuple[int, ...], path: Path, opset: int, batch: int | None, output: str
) -> None:
    with warnings.catch_warnings(), unfused_attention(model), export_forms(model), torch.inference_mode():
        warnings.simplefilter("ignore")  # of torch.export and its libraries, about themselves
        try:
            torch.onnx.export(
                model,
                (torch.zeros(batch or OPEN_EXAMPLE, *shape[1:]),),
                str(path),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim(BATCH)},) if batch is None else None,
                external_data=False,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            cause = error.__cause__ or error  # its own message says how to report an error
            raise StageError("export", "crash", str(cause).strip().splitlines()[0]) from error


def _parity(model: nn.Module, shape: tuple[int, ...], path: Path, batches: Iterable[int]) -> tuple[float, float]:
    """Largest difference to torch on random images: absolute, and over the largest logit."""
    was_training = model.training
    model.eval()
    absolute = relative = 0.0
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        images = torch.randn(batch, *shape, generator=generator)
        with torch.inference_mode():
            expected = model(images).numpy()
        logits = evaluate.logits(path, images.numpy(), batch_size=batch)
        if not (np.isfinite(expected).all() and np.isfinite(logits).all()):
            raise StageError("export", "not_finite", "the logits of random images have NaN or infinity")
        off, largest = float(np.abs(logits - expected).max()), float(np.abs(expected).max())
        absolute = max(absolute, off)
        relative = max(relative, off / largest if off else 0.0)
    model.train(was_training)
    if relative > PARITY_LIMIT:
        difference = f"onnxruntime and torch differ by {relative:.1e} of the largest logit"
        raise StageError("export", "parity", f"{difference}, allowed {PARITY_LIMIT:.0e}")
    return absolute, relative
