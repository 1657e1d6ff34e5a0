"""Small ONNX files written byte by byte, for devices without the `onnx` package.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from typing import Mapping, NamedTuple, Sequence, Tuple, Union

ELEMENT_TYPES: Mapping[str, int] = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "float16": 10,
    "bfloat16": 16,
}
"""Type name -> TensorProto.DataType."""


class Value(NamedTuple):
    """An input or output of a graph; `type` is a key of ELEMENT_TYPES, a text in `shape` the name of an open size."""

    name: str
    type: str
    shape: Tuple[Union[int, str], ...]


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    opset: int,
    ir_version: int,
    initializers: Sequence[bytes] = (),
) -> bytes:
    """Return the bytes of an ONNX file with one graph."""
    graph = b"".join(field(1, encoded) for encoded in nodes) + field(2, b"graph")
    graph += b"".join(field(5, tensor) for tensor in initializers)
    graph += b"".join(field(11, _value_info(value)) for value in inputs)
    graph += b"".join(field(12, _value_info(value)) for value in outputs)
    return number(1, ir_version) + field(7, graph) + field(8, field(1, b"") + number(2, opset))


def node(
    operator: str, inputs: Sequence[str], output: str, attributes: Sequence[bytes] = (), domain: str = ""
) -> bytes:
    """Return a NodeProto with one output."""
    encoded = b"".join(field(1, name.encode()) for name in inputs) + field(2, output.encode())
    encoded += field(4, operator.encode()) + b"".join(field(5, attribute) for attribute in attributes)
    return encoded + (field(7, domain.encode()) if domain else b"")


def integer_attribute(name: str, value: int) -> bytes:
    return field(1, name.encode()) + number(3, value) + number(20, 2)


def integers_attribute(name: str, values: Sequence[int]) -> bytes:
    return field(1, name.encode()) + b"".join(number(8, value) for value in values) + number(20, 7)


def tensor_attribute(name: str, tensor: bytes) -> bytes:
    return field(1, name.encode()) + field(5, tensor) + number(20, 4)


def tensor(name: str, type_name: str, shape: Sequence[int], raw: bytes) -> bytes:
    """Return a TensorProto; `type_name` is a key of ELEMENT_TYPES, `raw` its values in little endian."""
    encoded = b"".join(number(1, size) for size in shape) + number(2, ELEMENT_TYPES[type_name])
    return encoded + field(8, name.encode()) + field(9, raw)


def field(key: int, content: bytes) -> bytes:
    """Return a field of bytes, text or a nested message."""
    return varint(key << 3 | 2) + varint(len(content)) + content


def number(key: int, value: int) -> bytes:
    """Return a field with a non-negative whole number."""
    return varint(key << 3) + varint(value)


def varint(value: int) -> bytes:
    """Return protobuf's encoding of a non-negative whole number."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _value_info(value: Value) -> bytes:
    sizes = [field(2, size.encode()) if isinstance(size, str) else number(1, size) for size in value.shape]
    shape = b"".join(field(1, size) for size in sizes)
    tensor_type = number(1, ELEMENT_TYPES[value.type]) + field(2, shape)
    return field(1, value.name.encode()) + field(2, field(1, tensor_type))
