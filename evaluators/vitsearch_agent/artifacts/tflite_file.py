"""Check a TFLite file: it is well-formed and complete, and needs only TFLite's own operators.

Field numbers are those of the schema
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

from typing import BinaryIO, List, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.artifacts.facts import Declared, Facts, refusal
from vitsearch_agent.artifacts.flatbuffer import Broken, Flatbuffer, Table

_IDENTIFIER = b"TFL3"
_VERSION_FIELD, _OPERATOR_CODES_FIELD, _SUBGRAPHS_FIELD, _BUFFERS_FIELD = 0, 1, 2, 4
_EXTERNAL_FIELDS = (8, 9)
"""Groups of external buffers, which name files, and the buffers in these groups (LiteRT 2)."""
_OLD_CODE_FIELD, _CUSTOM_CODE_FIELD, _CODE_FIELD = 0, 1, 3
"""An operator's number is in the newer field; files for older runtimes have it in the old one, of one byte."""
_TENSORS_FIELD, _INPUTS_FIELD, _GRAPH_OPERATORS_FIELD = 0, 1, 3
_CODE_INDEX_FIELD, _OPERATOR_INPUTS_FIELD, _OPERATOR_OUTPUTS_FIELD = 0, 1, 2
_SHAPE_FIELD, _TYPE_FIELD, _NAME_FIELD, _SIGNATURE_FIELD = 0, 1, 3, 7
_DATA_FIELD, _OFFSET_FIELD, _SIZE_FIELD = 0, 1, 2
_PLACEHOLDER = 1
_SCHEMA_VERSION = 3
_OPERATORS_MAX, _BUFFERS_MAX = 4096, 1 << 16
_GRAPHS_MAX, _TENSORS_MAX = 4096, 1 << 18


class Tensor(NamedTuple):
    """The sizes of a tensor and the number of its element type in the schema (`TensorType`)."""

    shape: Tuple[int, ...]
    type: int


class Operator(NamedTuple):
    """The number of an operator in the schema (`BuiltinOperator`), and its tensors; None: an input that is left out."""

    code: int
    inputs: List[Optional[Tensor]]
    outputs: List[Optional[Tensor]]


def declared_inputs(stream: BinaryIO, size: int) -> List[Declared]:
    """Return the inputs of the first graph of a file of `size` bytes that `inspect` accepts."""
    buffer = Flatbuffer(stream, size)
    try:
        model = buffer.table(buffer.follow(0))
        graph = next(buffer.tables(buffer.field(model, _SUBGRAPHS_FIELD), _GRAPHS_MAX, "graphs"))
        wanted = buffer.numbers(buffer.field(graph, _INPUTS_FIELD))
        tensors = list(buffer.tables(buffer.field(graph, _TENSORS_FIELD), _TENSORS_MAX, "tensors")) if wanted else []
        return [_declared(buffer, tensors[index]) for index in wanted]
    except (Broken, IndexError, StopIteration) as error:
        raise refusal(f"not a TFLite file: {error or 'there is no graph'}") from error


def _declared(buffer: Flatbuffer, tensor: Table) -> Declared:
    signature = buffer.numbers(buffer.field(tensor, _SIGNATURE_FIELD))
    sizes = signature or buffer.numbers(buffer.field(tensor, _SHAPE_FIELD))
    return Declared(buffer.text(buffer.field(tensor, _NAME_FIELD)), sizes)


def operators(stream: BinaryIO, size: int) -> List[Operator]:
    """Return the operators of the first graph of a file of `size` bytes that `inspect` accepts, in its order."""
    buffer = Flatbuffer(stream, size)
    try:
        model = buffer.table(buffer.follow(0))
        codes = [
            _code(buffer, code)
            for code in buffer.tables(buffer.field(model, _OPERATOR_CODES_FIELD), _OPERATORS_MAX, "operators")
        ]
        graph = next(buffer.tables(buffer.field(model, _SUBGRAPHS_FIELD), _GRAPHS_MAX, "graphs"))
        tensors = [
            _tensor(buffer, table)
            for table in buffer.tables(buffer.field(graph, _TENSORS_FIELD), _TENSORS_MAX, "tensors")
        ]

        def named(operator: Table, number: int) -> List[Optional[Tensor]]:
            return [None if i < 0 else tensors[i] for i in buffer.numbers(buffer.field(operator, number))]

        graph_operators = []
        for table in buffer.tables(buffer.field(graph, _GRAPH_OPERATORS_FIELD), _TENSORS_MAX, "operators"):
            index = buffer.field(table, _CODE_INDEX_FIELD)
            code = codes[0 if index is None else buffer.u32(index)]
            graph_operators.append(
                Operator(code, named(table, _OPERATOR_INPUTS_FIELD), named(table, _OPERATOR_OUTPUTS_FIELD))
            )
        return graph_operators
    except (Broken, IndexError, StopIteration) as error:
        raise refusal(f"not a TFLite file: {error or 'there is no graph'}") from error


def _code(buffer: Flatbuffer, table: Table) -> int:
    old, new = buffer.field(table, _OLD_CODE_FIELD), buffer.field(table, _CODE_FIELD)
    return max(buffer.u8(old), 0 if new is None else buffer.u32(new))


def _tensor(buffer: Flatbuffer, table: Table) -> Tensor:
    kind = buffer.field(table, _TYPE_FIELD)
    shape = tuple(buffer.numbers(buffer.field(table, _SHAPE_FIELD)))
    return Tensor(shape, buffer.u8(kind))


def inspect(stream: BinaryIO, size: int, files: Mapping[str, str]) -> Facts:
    """Check a file of `size` bytes, return what it needs; MeasurementFailed `incompatible_artifact` refuses it."""
    buffer = Flatbuffer(stream, size)
    try:
        if buffer.bytes(4, 4) != _IDENTIFIER:
            raise Broken("the identifier is not TFL3")
        model = buffer.table(buffer.follow(0))
        version = buffer.field(model, _VERSION_FIELD)
        if version is None or buffer.u32(version) != _SCHEMA_VERSION:
            raise Broken(f"the schema is not version {_SCHEMA_VERSION}")
        if not buffer.length(buffer.field(model, _SUBGRAPHS_FIELD)):
            raise Broken("there is no graph")
        custom = _custom_operator(buffer, model)
        if any(buffer.length(buffer.field(model, number)) for number in _EXTERNAL_FIELDS):
            raise refusal(
                "the model keeps weights in external files, which could be any file: export it as a single file"
            )
        _check_buffers(buffer, model)
    except Broken as error:
        raise refusal(f"not a TFLite file: {error}") from error
    if custom is not None:
        raise refusal(f"the operator {custom!r} is a custom operator, which needs an additional library")
    return Facts("tflite")


def _custom_operator(buffer: Flatbuffer, model: Table) -> Optional[str]:
    for code in buffer.tables(buffer.field(model, _OPERATOR_CODES_FIELD), _OPERATORS_MAX, "operators"):
        name = buffer.field(code, _CUSTOM_CODE_FIELD)
        if buffer.length(name):
            return buffer.text(name)
    return None


def _check_buffers(buffer: Flatbuffer, model: Table) -> None:
    """Check that all weights are in the file: inside the flatbuffer or, in files of more than 2 GB, behind it."""
    for table in buffer.tables(buffer.field(model, _BUFFERS_FIELD), _BUFFERS_MAX, "buffers"):
        data = buffer.field(table, _DATA_FIELD)
        if data is not None:
            buffer.check(buffer.follow(data) + 4, buffer.length(data))
        offset = buffer.u64(buffer.field(table, _OFFSET_FIELD))
        if offset > _PLACEHOLDER:
            buffer.check(offset, buffer.u64(buffer.field(table, _SIZE_FIELD)))
