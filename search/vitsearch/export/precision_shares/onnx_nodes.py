"""The operators of an ONNX graph with the shapes and types that their tensors have in a run.

onnx itself knows no shapes behind onnxruntime's own operators, so the graph is run once, on zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]
FLOATS = {1: "fp32", 10: "fp16", 16: "bf16"}
"""ONNX's number of an element type -> precision."""
SILENT = 4


@dataclass(frozen=True)
class OnnxOperator:
    """An operator with what is known of its tensors. `types` are ONNX's numbers of element types."""

    node: onnx.NodeProto
    shapes: Mapping[str, Shape]
    types: Mapping[str, int]
    attributes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        import onnx

        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in self.node.attribute}
        object.__setattr__(self, "attributes", attributes)

    def input(self, index: int) -> Shape:
        """The shape of an input; empty when it is left out or unknown."""
        return self.shapes.get(self.node.input[index], ()) if index < len(self.node.input) else ()

    @property
    def output(self) -> Shape:
        return self.shapes.get(self.node.output[0], ())

    @property
    def float_type(self) -> str:
        """The precision of the output, fp32 when it is unknown."""
        return FLOATS.get(self.types.get(self.node.output[0], 1), "fp32")


def nodes(model: onnx.ModelProto, kinds: Collection[str], batch: int) -> list[OnnxOperator]:
    """The operators of the named `kinds`, in a run of `batch` images."""
    import onnx

    operators = [node for node in model.graph.node if node.op_type in kinds]
    constants = {value.name: value for value in model.graph.initializer}
    names = {name for node in operators for name in (*node.input, node.output[0]) if name}
    computed = _run(model, names - constants.keys(), batch)
    shapes = {name: tuple(constants[name].dims) for name in names & constants.keys()}
    types = {name: constants[name].data_type for name in names & constants.keys()}
    shapes |= {name: array.shape for name, array in computed.items()}
    types |= {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in computed.items()}
    return [OnnxOperator(node, shapes, types) for node in operators]


def settings(level: str) -> Any:
    """Options of a session: one thread, no messages, the graph optimized up to `level`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = SILENT
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return options


def _run(model: onnx.ModelProto, names: Collection[str], batch: int) -> dict[str, Any]:
    """The named tensors of a run on zeros."""
    import onnx
    import onnxruntime

    feeds = {value.name: _zeros(value, batch) for value in model.graph.input}
    outputs = sorted(name for name in names if name not in feeds)
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    session = onnxruntime.InferenceSession(
        probed.SerializeToString(), settings("ORT_DISABLE_ALL"), providers=["CPUExecutionProvider"]
    )
    return dict(zip(outputs, session.run(outputs, feeds), strict=True)) | feeds


def _zeros(value: onnx.ValueInfoProto, batch: int) -> Any:
    import onnx

    kind = value.type.tensor_type
    sizes = [size.dim_value or batch for size in kind.shape.dim]
    return np.zeros(sizes, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
