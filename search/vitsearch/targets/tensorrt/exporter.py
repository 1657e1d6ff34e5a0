"""ONNX files for TensorRT, in the form that the version on the device reads; the device builds the engine itself.

    10.0 and newer   typed: opset 20; the types of the tensors are the precision, no flag changes them
    8.6 and 9        opset 17, with LayerNorm as one operator; the precision is a flag of the build
    8.0 to 8.5       opset 13, with LayerNorm and GELU in their parts; the precision is a flag of the build

A typed file computes fp16 in float16, except the nodes of `.tensorrt_graph.kept_in_fp32`; images and logits are
float32. With a flag TensorRT chooses between fp16 and fp32 itself for each node, so the accuracy of such a file is
judged by the typed one of the same model.

int8 is signed, with zero points 0 and one scale for each tensor and each output channel of a weight. From 8.4 on it is
explicit: Q/DQ in front of MatMul, Gemm and Conv with constant weights; all else is in fp16. Neither side of a residual
addition is quantized: one side alone would break its fusion, and both cost accuracy. Products of two activations stay
in fp16, in which TensorRT fuses attention. Before 8.4, which does not fuse Q/DQ into MatMul and Gemm, the file is in
fp32 and has the scales in its metadata (`.tensorrt_calibration`); the agent makes the calibration cache of them.
TensorRT then chooses what is in int8, so the accuracy is that of a typed file that rounds wherever TensorRT may.

Weights with 2 zeros in 4 stay as they are; trtexec is then asked to look for them.

Nothing here was run in TensorRT, which cannot be installed where this was written: the files follow its published
rules, and their numbers are those of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.plan import Options
from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch_agent.artifacts.onnx_file import CALIBRATION

if TYPE_CHECKING:
    from torch import nn

    from vitsearch.compress.quantization.int8_static import Learned
    from vitsearch.compress.quantization.layers import Coverage

Version = tuple[int, ...]
LEAST_CHANNELS = 16
"""Convolutions with fewer inputs of a group, or outputs, stay in fp16: int8 kernels pad small numbers of channels. On
1000 images of Fashion-MNIST, in onnxruntime, int8 in depthwise convolutions cost MobileViT 1.2 points and EfficientViT
0.1; in the other convolutions it cost nothing."""


@dataclass(frozen=True)
class FileForm:
    """The form of a file from version `since` on. With `has_scales` int8 is left to TensorRT, by the scales of
    tensors; without, Q/DQ pairs say what is in int8."""

    since: Version
    opset: int
    is_typed: bool = False
    has_scales: bool = False


FORMS = (
    FileForm((10, 0), 20, is_typed=True),
    FileForm((8, 6), 17),
    FileForm((8, 4), 13),
    FileForm((8, 0), 13, has_scales=True),
)
"""Newest first."""


class TensorRtExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = "tensorrt"

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        from vitsearch.targets.tensorrt.typed_graph import as_numbers, operators

        device_version = None if task.version is None else as_numbers(task.version)
        form = _form(task, device_version)
        version = device_version or as_numbers(operators()[-1].since)
        final, precision = folder / "model.onnx", task.deployment.precision
        _write(model, task, final, form, version)
        options: Options = (("precision", "typed"),) if form.is_typed else ()
        if _is_sparse(final):
            options += (("sparsity", "enable"),)
        judged = final
        if not form.is_typed and precision != "fp32":
            judged = folder / "judged.onnx"
            stands_in = replace(FORMS[0], has_scales=form.has_scales)
            _write(model, task, judged, stands_in, as_numbers(operators()[-1].since))
        return ExportedFile(final, judged, options, rounds_more=precision.startswith("int8"))


def _form(task: ExportTask, version: Version | None) -> FileForm:
    """The form for a version, the newest for an unknown one; `StageError` when none fits."""
    form = FORMS[0] if version is None else next((form for form in FORMS if form.since <= version), None)
    if form is None:
        oldest = ".".join(map(str, FORMS[-1].since))
        reason = f"the device has TensorRT {task.version}, files are made for {oldest} and newer"
        raise StageError("export", "unsupported", reason)
    return form


def _write(model: nn.Module, task: ExportTask, path: Path, form: FileForm, version: Version) -> None:
    """Write the file in one form, checked against the operators of `version`."""
    import onnx

    from vitsearch.compress.quantization import fake_quant
    from vitsearch.compress.quantization.half import halved
    from vitsearch.compress.quantization.layers import Coverage
    from vitsearch.compress.quantization.qdq import quantize_in_graph, write_symmetric
    from vitsearch.export.graph.onnx_file import convert
    from vitsearch.targets.tensorrt.typed_graph import kept_in_fp32, refuse_unread

    precision = task.deployment.precision
    with fake_quant.unrounded(model):
        convert(model, task.shape, path, form.opset, task.deployment.batch, task.exporter, task.output)
    covered = Coverage(task.quantized_ops, fake_quant.weights_of(model, task.fp32_layers), LEAST_CHANNELS)
    if precision.startswith("int8") and form.has_scales:
        _write_scales(path, task, fake_quant.learned(model), covered, form)
    elif precision.startswith("int8"):
        write_symmetric(path, path, task.images, fake_quant.learned(model), covered)
    written = onnx.load(path)
    if form.is_typed and precision != "fp32":
        written = halved(written, kept_in_fp32(written.graph))
    elif not form.is_typed:
        quantize_in_graph(written.graph)
    onnx.checker.check_model(written)
    refuse_unread(written, version)
    onnx.save(written, path)


def _write_scales(path: Path, task: ExportTask, learned: Sequence[Learned], covered: Coverage, form: FileForm) -> None:
    """Put the scales of int8 into the metadata of an fp32 file, in place; a typed file rounds at them instead."""
    import onnx

    from vitsearch.targets.tensorrt import calibration as tensorrt_calibration

    written = onnx.load(path)
    scales = tensorrt_calibration.calibrated(written, task.images, learned, covered)
    if form.is_typed:
        tensorrt_calibration.round_at(written, scales)
    else:
        written.metadata_props.add(key=CALIBRATION, value=tensorrt_calibration.lines(scales))
    onnx.save(written, path)


def _is_sparse(path: Path) -> bool:
    """Whether a layer has two zeros in four neighbouring weights, as the kernels for sparse weights need them."""
    from vitsearch.compress import sparse_file
    from vitsearch.compress.sparsity import GROUP, LEAST_INPUTS

    masks = (mask for mask in sparse_file.zeros(path) if mask.shape[1] >= LEAST_INPUTS and mask.shape[1] % GROUP == 0)
    return any(int(mask.reshape(-1, GROUP).sum(1).min()) >= GROUP // 2 for mask in masks)
