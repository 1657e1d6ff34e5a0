"""Check a Core ML program (a model in protobuf, weights in a second file): it needs no other file and no other code.

Field numbers are those of Model.proto and MIL.proto (https://github.com/apple/coremltools/tree/main/mlmodel/format).
Refused are models other than ML programs (custom models, links to other models), operators outside Core ML's own sets,
and weights outside the second file. Core ML loads a folder; `write_package` makes it from the two files.
"""

import json
import os
import re
import shutil
from typing import BinaryIO, Mapping, Set

from vitsearch_agent.artifacts.facts import Facts, refusal
from vitsearch_agent.artifacts.protobuf import BYTES, VARINT, Field, Malformed, Message, ProtobufFile

WEIGHTS_FILE = "@model_path/weights/weight.bin"
"""The name that a program has for its weights."""

_ML_PROGRAM, _DESCRIPTION = 502, 2
_KINDS = range(200, 4000)
"""Field numbers of Model.proto for the kinds of model; below them are the version and the description."""
_SUPPORTED_VERSIONS = range(6, 1000)
"""ML programs exist since version 6 (iOS 15)."""
_SETS = re.compile(r"CoreML[0-9]{1,3}\Z")
_CUSTOM = re.compile(r"custom", re.IGNORECASE)
_DEPTH_MAX = 100
_FIELDS_MAX = 10**6
_NAME_MAX_BYTES = 4096

# Message -> field -> the message in it. Maps have entries with a key (1) and a value (2).
_NESTED: Mapping[str, Mapping[int, str]] = {
    "model": {_ML_PROGRAM: "program"},
    "program": {2: "functions", 4: "attributes"},
    "functions": {2: "function"},
    "function": {1: "named type", 3: "blocks", 4: "attributes"},
    "blocks": {2: "block"},
    "block": {1: "named type", 3: "operation", 4: "attributes"},
    "operation": {2: "inputs", 3: "named type", 4: "block", 5: "attributes"},
    "inputs": {2: "argument"},
    "argument": {1: "binding"},
    "binding": {2: "value"},
    "attributes": {2: "value"},
    "value": {2: "type", 3: "immediate", 5: "blob"},
    "immediate": {2: "values", 3: "values", 4: "pairs"},
    "values": {1: "value"},
    "pairs": {1: "pair"},
    "pair": {1: "value", 2: "value"},
    "named type": {2: "type"},
    "type": {1: "tensor type", 2: "list type", 3: "tuple type", 4: "pair type", 5: "list type"},
    "tensor type": {4: "attributes"},
    "list type": {1: "type"},
    "tuple type": {1: "type"},
    "pair type": {1: "type", 2: "type"},
    "blob": {},
}


class _Weights:
    """The second file: a header of 64 bytes, then tensors, each with a record of 64 bytes in front of it.

    A record is a mark, the type (4 bytes each), the size and the offset of the data (8 bytes each), little endian.
    """

    _RECORD_BYTES, _MARK = 64, 0xDEADBEEF

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        stream.seek(0)
        head = stream.read(self._RECORD_BYTES)
        if len(head) < self._RECORD_BYTES or int.from_bytes(head[4:8], "little") != 2:
            raise refusal("the weights are not a file of Core ML weights of version 2")

    def check(self, offset: int) -> None:
        """Refuse a tensor whose record or data are not in the file."""
        record = b""
        if offset % self._RECORD_BYTES == 0 and offset <= self._size - self._RECORD_BYTES:
            self._stream.seek(offset)
            record = self._stream.read(self._RECORD_BYTES)
        numbers = [int.from_bytes(record[start : start + 8], "little") for start in (8, 16)]
        if int.from_bytes(record[:4], "little") != self._MARK or sum(numbers) > self._size:
            raise refusal(f"a constant is at byte {offset} of the weights, where there is none of {self._size} bytes")


def inspect(stream: BinaryIO, size: int, files: Mapping[str, str]) -> Facts:
    """Check the two files, return what they need; MeasurementFailed `incompatible_artifact` refuses them."""
    with open(files["model.bin"], "rb") as weights:
        return _inspect(stream, size, weights, os.path.getsize(files["model.bin"]))


def _inspect(stream: BinaryIO, size: int, weights: BinaryIO, weights_bytes: int) -> Facts:
    wire = ProtobufFile(stream, size, _FIELDS_MAX)
    operations = 0
    kinds: Set[int] = set()
    blobs: Set[int] = set()
    todo = [Message("model", 0, size, 1)]
    try:
        while todo:
            message = todo.pop()
            operations += message.kind == "operation"
            if message.kind == "blob":
                blobs.add(_blob(wire, message))
                continue
            for field in wire.fields(message.start, message.end):
                if message.kind == "model":
                    _check_model(field, kinds)
                elif message.kind in ("function", "operation"):
                    _check_names(wire, message.kind, field)
                nested = _NESTED[message.kind].get(field.number)
                if nested is not None:
                    todo.append(_inside(message, field, nested))
    except Malformed as error:
        raise refusal(f"not a Core ML model: {error}") from error
    if kinds != {_ML_PROGRAM} or not operations:
        raise refusal("not a Core ML model: it has no program, or one without operations")
    weight_file = _Weights(weights, weights_bytes)
    for offset in sorted(blobs):
        weight_file.check(offset)
    return Facts("coreml")


def _check_model(field: Field, kinds: Set[int]) -> None:
    if field.number == 1:
        if field.wire != VARINT or field.value not in _SUPPORTED_VERSIONS:
            raise Malformed(f"byte {field.start}: the version of the format is {field.value}")
    elif field.number in _KINDS:
        kinds.add(field.number)
        if field.number != _ML_PROGRAM:
            raise refusal(
                f"the model is of kind {field.number} of Core ML's format, but only ML programs ({_ML_PROGRAM}) are "
                "accepted: others may need code or files beside them"
            )


def _check_names(wire: ProtobufFile, kind: str, field: Field) -> None:
    """Refuse a function of a foreign operator set, and a custom operator."""
    if kind == "function" and field.number == 2:
        _expect(field, BYTES)
        name = wire.text(field)
        if not _SETS.match(name):
            raise refusal(f"the operators are from the set {name[:80]!r}, which needs an additional library")
    elif kind == "operation" and field.number == 1:
        _expect(field, BYTES)
        name = wire.text(field)
        if _CUSTOM.search(name):
            raise refusal(f"the operator {name[:80]!r} is a custom operator, which needs an additional library")


def _blob(wire: ProtobufFile, message: Message) -> int:
    """Return the offset of a constant in the weights; any other file is refused."""
    name, offset = "", 0
    for field in wire.fields(message.start, message.end):
        if field.number == 1:
            _expect(field, BYTES)
            name = wire.text(field, _NAME_MAX_BYTES)
        elif field.number == 2:
            _expect(field, VARINT)
            offset = field.value
    if name != WEIGHTS_FILE:
        raise refusal(f"a constant is in the file {name[:80]!r}; the only one allowed is {WEIGHTS_FILE}")
    return offset


def _inside(message: Message, field: Field, kind: str) -> Message:
    _expect(field, BYTES)
    if message.depth >= _DEPTH_MAX:
        raise Malformed(f"messages are nested deeper than {_DEPTH_MAX}")
    return Message(kind, field.start, field.end, message.depth + 1)


def _expect(field: Field, wire: int) -> None:
    if field.wire != wire:
        raise Malformed(f"byte {field.start}: field {field.number} has the wire type {field.wire}, not {wire}")


_AUTHOR = "com.apple.CoreML"
_PACKAGE = (
    ("model.mlmodel", "0A2FB3B6-6A0C-4E53-8F0C-0D1B3C5F0001", "CoreML Model Specification"),
    ("weights", "0A2FB3B6-6A0C-4E53-8F0C-0D1B3C5F0002", "CoreML Model Weights"),
)
"""The items of a package: path below Data/com.apple.CoreML, identifier (any that differ), description."""


def write_package(model: str, weights: str, folder: str) -> None:
    """Make `folder`, whose name should end in .mlpackage, of the two files: the form that Core ML loads."""
    inside = os.path.join(folder, "Data", _AUTHOR)
    os.makedirs(os.path.join(inside, "weights"))
    _place(model, os.path.join(inside, "model.mlmodel"))
    _place(weights, os.path.join(inside, "weights", "weight.bin"))
    items = {
        identifier: {"author": _AUTHOR, "description": what, "name": name, "path": "/".join((_AUTHOR, name))}
        for name, identifier, what in _PACKAGE
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": _PACKAGE[0][1]}
    with open(os.path.join(folder, "Manifest.json"), "w") as stream:
        json.dump(manifest, stream, indent=4)


def _place(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
