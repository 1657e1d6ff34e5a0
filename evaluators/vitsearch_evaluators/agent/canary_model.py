"""The canary's model, an ONNX file of 700 bytes that is written byte by byte.

    image [1, 64, 256] --> (MatMul with a 256 x 256 matrix, Relu) x 8 --> logits [1, 64, 256]

All weights are 1/256 and come from one ConstantOfShape, so that a small file gives a real amount of work (34 million
multiply-adds: 0.4 ms on a server, some 10 ms on a Raspberry Pi). No value overflows or becomes denormal, which would
be slow.
"""

import struct
from typing import Any, Dict, List, NamedTuple, Sequence

from vitsearch_evaluators.base.onnx_writer import ELEMENT_TYPES, Value, field, model, node, number

_ROWS, _WIDTH, _LAYERS = 64, 256, 8
_IR_VERSION, _OPSET = 7, 13
_TENSOR = 4
"""AttributeProto.AttributeType.TENSOR"""


class CanaryModel(NamedTuple):
    """The runtime of the canary, with the file and the options for it."""

    runtime: str
    options: Dict[str, Any]
    content: bytes


def model_for(available: Sequence[str]) -> CanaryModel:
    """Return an ONNX model if onnxruntime is available, else a fixed amount of hashing."""
    if "onnxruntime" in available:
        return CanaryModel("onnxruntime", {}, onnx_bytes())
    return CanaryModel("noop", {"hash_kib": 512}, b"canary")


def onnx_bytes() -> bytes:
    """Return the ONNX file."""
    nodes = [node("ConstantOfShape", ["shape"], "weight", _attribute("value", _tensor("", [1], "float32")))]
    value = "image"
    for layer in range(_LAYERS):
        last = layer == _LAYERS - 1
        nodes.append(node("MatMul", [value, "weight"], f"product{layer}"))
        value = "logits" if last else f"value{layer}"
        nodes.append(node("Relu", [f"product{layer}"], value))
    image, logits = (Value(name, "float32", (1, _ROWS, _WIDTH)) for name in ("image", "logits"))
    return model(nodes, [image], [logits], _OPSET, _IR_VERSION, [_tensor("shape", [2], "int64")])


def _attribute(name: str, tensor: bytes) -> bytes:
    return field(1, name.encode()) + field(5, tensor) + number(20, _TENSOR)


def _tensor(name: str, shape: List[int], kind: str) -> bytes:
    raw = struct.pack("<f", 1.0 / _WIDTH) if kind == "float32" else struct.pack("<qq", _WIDTH, _WIDTH)
    encoded = b"".join(number(1, size) for size in shape) + number(2, ELEMENT_TYPES[kind])
    return encoded + field(8, name.encode()) + field(9, raw)
