"""Check an ONNX file: find the versions that it needs, refuse external data and foreign operators.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). It checks every
subgraph, function and tensor, and skips the weights themselves.
"""

import re
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from vitsearch_agent.artifacts.facts import Declared, Facts, refusal
from vitsearch_agent.artifacts.protobuf import BYTES, VARINT, Field, Malformed, Message, ProtobufFile

DOMAINS = (
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.training",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
)
"""Domains whose operators are part of onnx or onnxruntime. Other domains need libraries, which are never loaded."""

# These operators run code from the file: a compiled engine, possibly given by its path, or Python.
_CODE_OPERATORS = ("EPContext", "PythonOp", "PythonOpGrad", "PyOp")

_DEPTH_MAX = 100
"""Maximum depth of nested messages, as in protobuf itself."""
_FIELDS_MAX = 10**6
"""A transformer of 50 blocks has some 60,000 fields; reading 10^6 takes a second."""

_NESTED: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
_NUMBERS: Mapping[str, Mapping[int, str]] = {
    "model": {1: "ir_version"},
    "opset": {2: "version"},
    "tensor": {14: "data_location"},
}
_TEXTS: Mapping[str, Mapping[int, str]] = {
    "node": {4: "op_type", 7: "domain"},
    "function": {1: "name", 10: "domain"},
    "opset": {1: "domain"},
}
_EXTERNAL_DATA = 13
_EXTERNAL = 1
_NAME_MAX_BYTES = 4096

CALIBRATION = "vitsearch.calibration"
"""The key in a model's metadata of the scales of its tensors: a calibration cache of TensorRT without its first line.

A line has a tensor and the bits of its scale (float32) in hexadecimal."""
_CALIBRATION_MAX_BYTES = 1 << 22
_SCALES = re.compile(r"(?:[^\r\n]+: [0-9a-f]{8}\n)*\Z")


class _Seen(NamedTuple):
    """What the messages read so far contain."""

    opsets: Dict[str, int]
    operators: Set[Tuple[str, str]]
    functions: Set[Tuple[str, str]]


def inspect(stream: BinaryIO, size: int, files: Mapping[str, str]) -> Facts:
    """Check a file of `size` bytes, return what it needs; MeasurementFailed `incompatible_artifact` refuses it."""
    wire = ProtobufFile(stream, size, _FIELDS_MAX)
    seen = _Seen({}, set(), set())
    graphs, ir_version = 0, None
    todo = [Message("model", 0, size, 1)]
    try:
        while todo:
            message = todo.pop()
            scalars = _read(wire, message, todo)
            graphs += message.kind == "graph"
            if message.kind == "model":
                ir_version = scalars.get("ir_version")
            _record(seen, message.kind, scalars)
    except Malformed as error:
        raise refusal(f"not an ONNX file: {error}") from error
    if not isinstance(ir_version, int) or not ir_version or not graphs:
        raise refusal("not an ONNX file: it has no IR version or no graph")
    _refuse_foreign_operators(seen)
    return Facts("onnx", ir_version, seen.opsets)


def declared_inputs(stream: BinaryIO, size: int) -> List[Declared]:
    """Return the inputs of a file of `size` bytes that `inspect` accepts."""
    wire = ProtobufFile(stream, size, _FIELDS_MAX)
    weights: Set[str] = set()
    inputs: List[Declared] = []
    try:
        for graph in _fields(wire, 0, size, 7):
            for field in wire.fields(graph.start, graph.end):
                if field.number == 5:
                    weights.update(
                        wire.text(name, _NAME_MAX_BYTES) for name in _fields(wire, field.start, field.end, 8)
                    )
                elif field.number == 11:
                    inputs.append(_declared(wire, field))
    except Malformed as error:
        raise refusal(f"not an ONNX file: {error}") from error
    # Before IR version 4, weights are inputs too.
    return [declared for declared in inputs if declared.name not in weights]


def calibration(stream: BinaryIO, size: int) -> Optional[str]:
    """Return the scales in the metadata of a file of `size` bytes that `inspect` accepts; None without them."""
    wire = ProtobufFile(stream, size, _FIELDS_MAX)
    try:
        for entry in _fields(wire, 0, size, 14):
            key, value = (list(_fields(wire, entry.start, entry.end, number)) for number in (1, 2))
            if key and value and wire.text(key[-1], _NAME_MAX_BYTES) == CALIBRATION:
                scales = wire.text(value[-1], _CALIBRATION_MAX_BYTES)
                if not _SCALES.match(scales):
                    raise Malformed(f"byte {value[-1].start}: {CALIBRATION} is not a list of tensors and scales")
                return scales
    except Malformed as error:
        raise refusal(f"not an ONNX file: {error}") from error
    return None


def _declared(wire: ProtobufFile, value: Field) -> Declared:
    """Read a ValueInfoProto: its name, and the sizes in its type."""
    name, dims = "", None
    for field in wire.fields(value.start, value.end):
        if field.number == 1:
            name = wire.text(field, _NAME_MAX_BYTES)
        elif field.number == 2:
            for tensor in _fields(wire, field.start, field.end, 1):
                for shape in _fields(wire, tensor.start, tensor.end, 2):
                    dims = [_dimension(wire, dimension) for dimension in _fields(wire, shape.start, shape.end, 1)]
    return Declared(name, dims)


def _dimension(wire: ProtobufFile, dimension: Field) -> Any:
    """Return a size, the name of an open dimension, or None."""
    size: Optional[Any] = None
    for field in wire.fields(dimension.start, dimension.end):
        if field.number == 1 and field.wire == VARINT:
            size = field.value if field.value < 1 << 63 else None
        elif field.number == 2:
            size = wire.text(field, _NAME_MAX_BYTES)
    return size


def _fields(wire: ProtobufFile, start: int, end: int, number: int) -> Iterator[Field]:
    """Yield the fields with a number that hold a nested message or a text."""
    return (field for field in wire.fields(start, end) if field.number == number and field.wire == BYTES)


def _read(wire: ProtobufFile, message: Message, todo: List[Message]) -> Dict[str, object]:
    """Return the relevant fields of a message and add its nested messages to `todo`."""
    nested, numbers = _NESTED[message.kind], _NUMBERS.get(message.kind, {})
    texts = _TEXTS.get(message.kind, {})
    values: Dict[str, object] = {}
    for field in wire.fields(message.start, message.end):
        if field.number in nested:
            _expect(field, BYTES)
            if message.depth >= _DEPTH_MAX:
                raise Malformed(f"messages are nested deeper than {_DEPTH_MAX}")
            todo.append(Message(nested[field.number], field.start, field.end, message.depth + 1))
        elif field.number in numbers:
            _expect(field, VARINT)
            values[numbers[field.number]] = field.value
            if numbers[field.number] == "data_location":
                values["data_location"] = field.value & 0xFFFFFFFF  # protobuf keeps 32 bits of an enum
        elif field.number in texts:
            _expect(field, BYTES)
            values[texts[field.number]] = wire.text(field)
        if message.kind == "tensor" and (field.number == _EXTERNAL_DATA or values.get("data_location") == _EXTERNAL):
            raise refusal(
                "the model keeps tensors in external files, which could be any file: export it as a single file"
            )
    return values


def _record(seen: _Seen, kind: str, values: Mapping[str, object]) -> None:
    domain = str(values.get("domain", ""))
    domain = "" if domain == "ai.onnx" else domain
    if kind == "opset":
        version = values.get("version", 0)
        assert isinstance(version, int)
        seen.opsets[domain] = max(version, seen.opsets.get(domain, 0))
    elif kind == "node":
        seen.operators.add((domain, str(values.get("op_type", ""))))
    elif kind == "function":
        seen.functions.add((domain, str(values.get("name", ""))))


def _refuse_foreign_operators(seen: _Seen) -> None:
    for domain, name in sorted(seen.operators):
        if name in _CODE_OPERATORS:
            raise refusal(f"the operator {name} runs code that is contained in the file: export the plain model")
        if domain not in DOMAINS and (domain, name) not in seen.functions:
            raise refusal(
                f"the operator {name!r} is from the domain {domain!r}, which needs an additional library; "
                f"allowed are functions of the model and the domains {', '.join(map(repr, DOMAINS))}"
            )


def _expect(field: Field, wire: int) -> None:
    if field.wire != wire:
        raise Malformed(f"byte {field.start}: field {field.number} has the wire type {field.wire}, not {wire}")
