"""The canary's model, made here byte by byte: an ONNX file of 700 bytes.

    image [1, 64, 256] --> (MatMul with a 256 x 256 matrix, Relu) x 8 --> logits [1, 64, 256]

All weights are 1/256, made by one ConstantOfShape, so that a small file is a real amount of work
(34 million multiply-adds: 0.4 ms on a server, some 10 ms on a Raspberry Pi) and no value ever
overflows or becomes too small to be fast.
"""

import struct
from typing import Any, Dict, List, NamedTuple, Sequence

_ROWS, _WIDTH, _LAYERS = 64, 256, 8
_IR_VERSION, _OPSET = 7, 13
_FLOAT, _INT64 = 1, 7
_TENSOR = 4
"""AttributeProto.AttributeType.TENSOR"""


class CanaryModel(NamedTuple):
    """What is measured: a runtime of every device, with the file and options for it."""

    runtime: str
    options: Dict[str, Any]
    content: bytes


def model_for(available: Sequence[str]) -> CanaryModel:
    """Return a real model where onnxruntime is, else a fixed amount of hashing."""
    if "onnxruntime" in available:
        return CanaryModel("onnxruntime", {}, onnx_bytes())
    return CanaryModel("noop", {"hash_kib": 512}, b"canary")


def onnx_bytes() -> bytes:
    """Return the ONNX file."""
    nodes = [_node("ConstantOfShape", ["shape"], "weight", _attribute("value", _tensor("", [1], _FLOAT)))]
    value = "image"
    for layer in range(_LAYERS):
        last = layer == _LAYERS - 1
        nodes.append(_node("MatMul", [value, "weight"], f"product{layer}"))
        value = "logits" if last else f"value{layer}"
        nodes.append(_node("Relu", [f"product{layer}"], value))
    graph = b"".join(_field(1, node) for node in nodes)
    graph += _field(2, b"canary")
    graph += _field(5, _tensor("shape", [2], _INT64))
    graph += _field(11, _value_info("image"))
    graph += _field(12, _value_info("logits"))
    opset = _field(1, b"") + _number(2, _OPSET)
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, opset)


def _node(operator: str, inputs: List[str], output: str, attribute: bytes = b"") -> bytes:
    encoded = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    return encoded + _field(4, operator.encode()) + (_field(5, attribute) if attribute else b"")


def _attribute(name: str, tensor: bytes) -> bytes:
    return _field(1, name.encode()) + _field(5, tensor) + _number(20, _TENSOR)


def _tensor(name: str, shape: List[int], kind: int) -> bytes:
    raw = struct.pack("<f", 1.0 / _WIDTH) if kind == _FLOAT else struct.pack("<qq", _WIDTH, _WIDTH)
    encoded = b"".join(_number(1, size) for size in shape) + _number(2, kind)
    return encoded + _field(8, name.encode()) + _field(9, raw)


def _value_info(name: str) -> bytes:
    shape = b"".join(_field(1, _number(1, size)) for size in (1, _ROWS, _WIDTH))
    tensor_type = _number(1, _FLOAT) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor_type))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
