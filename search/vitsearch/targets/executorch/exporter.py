"""ExecuTorch programs (.pte) for the CPU, by torch.export and XNNPACK's partitioner.

    fp32       as it is
    int8_ptq   `XNNPACKQuantizer`: static ranges of activations, symmetric weights for each output channel

A program has one method, `forward`, which takes and gives one tensor without a name; its batch is fixed. XNNPACK
computes what the partitioner gives it (matrix products, convolutions and activations); LayerNorms and expansions stay
with ExecuTorch's own kernels. Lowering a model takes 8 to 110 CPU-seconds.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.core.precisions import ALL
from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile, Exporter, ExportTask

if TYPE_CHECKING:
    from torch import nn

NAME = "executorch"
CHATTY = ("torchao", "executorch", "torch.utils._pytree", "torch.export")


class ExecuTorchExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = NAME
    packages = ("executorch", "torchao")

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        from vitsearch.compress.quantization import fake_quant

        final = folder / "model.pte"
        with fake_quant.unrounded(model), _quiet():
            captured = _captured(model, task.shape)
            if task.deployment.precision == "int8_ptq":
                captured = _quantized(captured, task)
            final.write_bytes(_lowered(captured))
        return ExportedFile(final)


def _captured(model: nn.Module, shape: tuple[int, ...]) -> Any:
    """The torch.export program of `model`, with attention as plain products: XNNPACK takes them, and the masks of
    fused attention (`eq`, `full_like`) have no kernel there."""
    import torch

    from vitsearch.export.graph.module_rewrites import export_forms
    from vitsearch.models.surgery import unfused_attention

    was_training = model.training
    try:
        with unfused_attention(model), export_forms(model), torch.no_grad(), _refusals("torch.export"):
            return torch.export.export(model.eval(), (torch.zeros(shape),))
    finally:
        model.train(was_training)


def _quantized(captured: Any, task: ExportTask) -> Any:
    """The program with int8 layers, calibrated on the images of the task."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    with torch.no_grad(), _refusals("torchao"):
        observed = prepare_pt2e(captured.module(), _quantizer(task))
        for images in task.calibration_batches():
            observed(torch.from_numpy(images))
        return torch.export.export(convert_pt2e(observed), (torch.zeros(task.shape),))


def _quantizer(task: ExportTask) -> Any:
    """XNNPACK's own quantizer, for the layers that the task covers."""
    from dataclasses import replace

    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from torchao.quantization.pt2e.observer import MinMaxObserver
    from torchao.quantization.pt2e.quantizer.utils import get_module_name_filter

    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    spec = config.input_activation
    assert spec is not None
    ranges = replace(spec, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12))
    config = replace(config, input_activation=ranges, output_activation=ranges)
    quantizer = xnnpack.XNNPACKQuantizer()
    targets = [*xnnpack.LINEAR_TARGETS]
    if task.quantized_ops == ALL:
        targets += [*xnnpack.CONV_TARGETS, *xnnpack.CONV_TRANSPOSE_TARGETS]
    for target in targets:
        quantizer.set_operator_type(target, config)
    left = [get_module_name_filter(name) for name in task.fp32_layers]
    return quantizer.set_filter_function(lambda node: not any(is_part_of(node) for is_part_of in left))


def _lowered(captured: Any) -> bytes:
    """The program's file."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with _refusals(NAME):
        lowered = to_edge_transform_and_lower(captured, partitioner=[XnnpackPartitioner()])
        return bytes(lowered.to_executorch().buffer)


@contextlib.contextmanager
def _refusals(tool: str) -> Iterator[None]:
    """What a tool raises, as a failure of the export: its first line."""
    try:
        yield
    except Exception as error:  # each of its passes raises exceptions of its own
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StageError("export", "crash", f"{tool}: {said[0]}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the libraries say of themselves away from the user."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
