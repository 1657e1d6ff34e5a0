"""The fp32 file of a network that is an ONNX file: written for a batch and an opset, with few nodes."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, version_converter

from vitsearch.errors import StageError
from vitsearch.export.graph.simplify import simplify
from vitsearch.models.onnx_model import OnnxModel, fixed_batch, has_subgraphs, is_quantized, opset_of


def write_file(model: OnnxModel, shape: tuple[int, ...], path: Path, opset: int | None, batch: int | None) -> None:
    """Write the file of a network.

    Args:
        model: The network.
        shape: Of its images; the first number does not count.
        path: Where to.
        opset: The newest one that the runtime reads; None for any.
        batch: Images in a run; None for any number.

    Raises:
        StageError: The graph does not take that batch, or cannot be written in that opset.
    """
    proto = model.proto()
    own = fixed_batch(proto)
    if own and batch != own:
        wanted = "any number of images" if batch is None else f"{batch} images"
        raise StageError("export", "unsupported", f"the graph of the file takes {own} image in a run, not {wanted}")
    for value in (proto.graph.input[0], proto.graph.output[0]):
        if batch is not None:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    for size, pixels in zip(proto.graph.input[0].type.tensor_type.shape.dim[1:], shape[1:], strict=True):
        size.dim_value = pixels
    if opset is not None and opset < opset_of(proto):
        proto = _older(proto, opset)
    onnx.save(proto, path)
    if not (is_quantized(proto) or has_subgraphs(proto)):
        simplify(path)


def _older(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The file in an older opset."""
    try:
        converted = version_converter.convert_version(proto, opset)
        onnx.checker.check_model(converted)
    except Exception as error:  # onnx raises errors of several kinds
        reason = str(error).strip().splitlines()[0]
        needed = f"the file has opset {opset_of(proto)}, and the runtime reads at most {opset}"
        raise StageError("export", "unsupported", f"{needed}; it cannot be converted: {reason}") from error
    converted.ir_version = helper.find_min_ir_version_for(converted.opset_import)
    return converted
