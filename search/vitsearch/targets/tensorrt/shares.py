"""MACs by the types in an ONNX file, for a runtime that compiles it on the device and is not on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.caveats.precision_shares import PROMISED
from vitsearch.core.plan import Deployment
from vitsearch.export.evaluate import OpenFile
from vitsearch.export.precision_shares import onnx_macs
from vitsearch.export.precision_shares.onnx_nodes import nodes

if TYPE_CHECKING:
    import onnx

MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Gather"})
"""Operators that change no value: int8 before them is int8 behind them."""


def macs(path: Path, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run. Empty where the file has nothing of its precision, and where int8 is all that it
    says: the rest is then compiled with a flag, and only the device knows what became of it."""
    import onnx

    model = onnx.load(path)
    makers = {name: node for node in model.graph.node for name in node.output}
    count: Counter[str] = Counter()
    for node in nodes(model, onnx_macs.COUNTED, deployment.batch or 1):
        of_node = onnx_macs.of_node(node)
        rounded = all(_is_rounded(name, makers) for name in node.node.input[:2])
        count.update({onnx_macs.INT8: of_node.total()} if rounded else of_node)
    promised = PROMISED.get(deployment.precision, "fp32")
    is_open = promised == onnx_macs.INT8 and "fp32" in count and "fp16" not in count
    return count if promised in count and not is_open else {}


def _is_rounded(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a tensor comes from a DequantizeLinear."""
    node = makers.get(name)
    while node is not None and node.op_type in MOVES:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"
