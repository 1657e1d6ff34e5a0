"""ONNX nodes for operators of torch that its TorchScript exporter cannot convert."""

from __future__ import annotations

from typing import Any

import torch
from torch.onnx import symbolic_helper
from torch.onnx.utils import register_custom_op_symbolic

OLDEST_OPSET = 9
"""Of the exporter; a converter serves this opset and all later ones."""
AXES_ARE_INPUT = 18
"""From this opset on ReduceMean reads its axes as an input, before as an attribute."""


def register() -> None:
    """Add the converters to the exporter of this process. A second call changes nothing."""
    register_custom_op_symbolic("aten::rms_norm", _rms_norm, OLDEST_OPSET)


@symbolic_helper.parse_args("v", "is", "v", "f")
def _rms_norm(graph: Any, x: Any, shape: list[int], weight: Any, epsilon: float | None) -> Any:
    """`weight * x / sqrt(mean(x^2) + epsilon)` over the last `len(shape)` axes (Zhang and Sennrich 2019).

    onnxruntime fuses exactly these nodes into one kernel when `shape` has one axis.
    """
    least = torch.finfo(torch.float32).eps if epsilon is None else epsilon  # the default of torch
    axes = list(range(-len(shape), 0))
    square = graph.op("Pow", x, _constant(graph, 2.0))
    if graph.opset < AXES_ARE_INPUT:
        mean = graph.op("ReduceMean", square, axes_i=axes, keepdims_i=1)
    else:
        mean = graph.op("ReduceMean", square, _constant(graph, axes), keepdims_i=1)
    scaled = graph.op("Div", x, graph.op("Sqrt", graph.op("Add", mean, _constant(graph, least))))
    return scaled if weight.node().mustBeNone() else graph.op("Mul", scaled, weight)


def _constant(graph: Any, value: float | list[int]) -> Any:
    return graph.op("Constant", value_t=torch.tensor(value))
