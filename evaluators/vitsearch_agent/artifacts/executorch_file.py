"""Check an ExecuTorch program (.pte): it is well-formed and complete, and needs no code beside the runtime's own.

A program is a flatbuffer with a header behind its identifier; segments follow it, with weights and with what was made
for delegates. Field numbers are those of the schema
(https://github.com/pytorch/executorch/blob/main/schema/program.fbs).
"""

from typing import BinaryIO, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.artifacts.facts import Facts, refusal
from vitsearch_agent.artifacts.flatbuffer import Broken, Flatbuffer, Table

IDENTIFIER = b"ET12"
_HEADER = b"eh00"
_HEADER_AT, _HEADER_LEAST_BYTES, _HEADER_BYTES = 8, 24, 32
DELEGATES = ("XnnpackBackend",)
"""Delegates whose data are graphs and weights. What is made for others may be machine code."""
_PLANS_FIELD, _INLINE_FIELD, _SEGMENTS_FIELD = 1, 3, 4
_VALUES_FIELD, _CHAINS_FIELD, _OPERATORS_FIELD, _DELEGATES_FIELD = 2, 5, 6, 7
_INSTRUCTIONS_FIELD = 2
_UNION_TYPE_FIELD, _UNION_FIELD = 0, 1
"""Of a value or an instruction: what it is, and its table."""
_TENSOR, _KERNEL_CALL, _DELEGATE_CALL = 5, 1, 2
_SIZES_FIELD, _EXTRA_FIELD, _LOCATION_FIELD = 2, 9, 2
_INDEX_FIELD, _ARGUMENTS_FIELD = 0, 1
_NAME_FIELD, _OVERLOAD_FIELD = 0, 1
_ID_FIELD, _PROCESSED_FIELD, _IN_SEGMENT_FIELD, _DATA_INDEX_FIELD = 0, 1, 0, 1
_OFFSET_FIELD, _SIZE_FIELD = 0, 1
_MOST = 1 << 18


class Span(NamedTuple):
    """Bytes of a file."""

    offset: int
    size: int


class KernelCall(NamedTuple):
    """A call of one of the runtime's own kernels: its name (`aten::bmm.out`) and the sizes of its arguments (None: an
    argument that is not a tensor)."""

    operator: str
    shapes: List[Optional[Tuple[int, ...]]]


class Program(NamedTuple):
    """What a program consists of.

    Attributes:
        delegates: The data of each delegate.
        kernels: The calls of kernels, in their order.
        delegate_calls: The number of calls of delegates.
    """

    delegates: List[Span]
    kernels: List[KernelCall]
    delegate_calls: int


class _Header(NamedTuple):
    program_bytes: int
    segments_at: int
    segments_bytes: Optional[int]


def inspect(stream: BinaryIO, size: int, files: Mapping[str, str]) -> Facts:
    """Check a file of `size` bytes, return what it needs; MeasurementFailed `incompatible_artifact` refuses it."""
    program(stream, size)
    return Facts("executorch")


def program(stream: BinaryIO, size: int) -> Program:
    """Check a file of `size` bytes and return what it consists of; MeasurementFailed as `inspect`."""
    buffer = Flatbuffer(stream, size)
    try:
        header = _header(buffer, size)
        root = buffer.table(buffer.follow(0))
        segments = list(_segments(buffer, root, header))
        plans = list(buffer.tables(buffer.field(root, _PLANS_FIELD), _MOST, "methods"))
        if not plans:
            raise Broken("there is no method")
        delegates: List[Span] = []
        kernels: List[KernelCall] = []
        delegate_calls = 0
        for plan in plans:
            delegates += _delegates(buffer, root, plan, segments)
            values = list(_shapes(buffer, plan))
            for operator, arguments in _calls(buffer, plan):
                if operator is None:
                    delegate_calls += 1
                else:
                    kernels.append(KernelCall(operator, [values[index] for index in arguments]))
        return Program(delegates, kernels, delegate_calls)
    except (Broken, IndexError) as error:
        raise refusal(f"not an ExecuTorch program: {error}") from error


def _header(buffer: Flatbuffer, size: int) -> _Header:
    if buffer.bytes(4, 4) != IDENTIFIER:
        raise Broken("the identifier is not ET12")
    if buffer.bytes(_HEADER_AT, 4) != _HEADER or buffer.u32(_HEADER_AT + 4) < _HEADER_LEAST_BYTES:
        raise Broken("there is no header (eh00) behind the identifier")
    program_bytes, segments_at = buffer.u64(_HEADER_AT + 8), buffer.u64(_HEADER_AT + 16)
    says_more = buffer.u32(_HEADER_AT + 4) >= _HEADER_BYTES
    segments_bytes = buffer.u64(_HEADER_AT + 24) if says_more else None
    needed = max(program_bytes, segments_at + (segments_bytes or 0))
    if needed > size:
        raise Broken(f"it was cut off: {size} of {needed} bytes")
    return _Header(program_bytes, segments_at, segments_bytes)


def _segments(buffer: Flatbuffer, root: Table, header: _Header) -> Iterator[Span]:
    for table in buffer.tables(buffer.field(root, _SEGMENTS_FIELD), _MOST, "segments"):
        offset, size = (buffer.u64(buffer.field(table, number)) for number in (_OFFSET_FIELD, _SIZE_FIELD))
        buffer.check(header.segments_at + offset, size)
        yield Span(header.segments_at + offset, size)


def _delegates(buffer: Flatbuffer, root: Table, plan: Table, segments: List[Span]) -> Iterator[Span]:
    for table in buffer.tables(buffer.field(plan, _DELEGATES_FIELD), _MOST, "delegates"):
        name = buffer.text(buffer.field(table, _ID_FIELD))
        if name not in DELEGATES:
            raise refusal(
                f"the delegate {name!r} is not accepted, because its data may be machine code; "
                f"allowed: {', '.join(DELEGATES)}"
            )
        at = buffer.field(table, _PROCESSED_FIELD)
        if at is None:
            raise Broken(f"a delegate {name!r} has no data")
        processed = buffer.table(buffer.follow(at))
        index = _u32(buffer, processed, _DATA_INDEX_FIELD)
        if buffer.u8(buffer.field(processed, _IN_SEGMENT_FIELD)):
            yield segments[index]
        else:
            inline = list(buffer.tables(buffer.field(root, _INLINE_FIELD), _MOST, "delegates"))[index]
            data = buffer.field(inline, 0)
            count = buffer.length(data)
            start = 0 if data is None else buffer.follow(data) + 4
            buffer.check(start, count)
            yield Span(start, count)


def _shapes(buffer: Flatbuffer, plan: Table) -> Iterator[Optional[Tuple[int, ...]]]:
    """The sizes of each value, None for one that is not a tensor."""
    for value in buffer.tables(buffer.field(plan, _VALUES_FIELD), _MOST, "values"):
        tensor = _member(buffer, value) if _kind(buffer, value) == _TENSOR else None
        if tensor is None:
            yield None
            continue
        extra = buffer.field(tensor, _EXTRA_FIELD)
        if extra is not None and buffer.u8(buffer.field(buffer.table(buffer.follow(extra)), _LOCATION_FIELD)):
            raise refusal("the model keeps weights in an external file: export it as a single file")
        yield tuple(buffer.numbers(buffer.field(tensor, _SIZES_FIELD)))


def _calls(buffer: Flatbuffer, plan: Table) -> Iterator[Tuple[Optional[str], List[int]]]:
    """The name of the operator (None: a delegate) and the values of each call."""
    operators = [
        ".".join(filter(None, (buffer.text(buffer.field(table, number)) for number in (_NAME_FIELD, _OVERLOAD_FIELD))))
        for table in buffer.tables(buffer.field(plan, _OPERATORS_FIELD), _MOST, "operators")
    ]
    for chain in buffer.tables(buffer.field(plan, _CHAINS_FIELD), _MOST, "chains"):
        for instruction in buffer.tables(buffer.field(chain, _INSTRUCTIONS_FIELD), _MOST, "instructions"):
            kind, call = _kind(buffer, instruction), _member(buffer, instruction)
            if call is None or kind not in (_KERNEL_CALL, _DELEGATE_CALL):
                continue
            name = None if kind == _DELEGATE_CALL else operators[_u32(buffer, call, _INDEX_FIELD)]
            yield name, buffer.numbers(buffer.field(call, _ARGUMENTS_FIELD))


def _kind(buffer: Flatbuffer, table: Table) -> int:
    return buffer.u8(buffer.field(table, _UNION_TYPE_FIELD))


def _member(buffer: Flatbuffer, table: Table) -> Optional[Table]:
    at = buffer.field(table, _UNION_FIELD)
    return None if at is None else buffer.table(buffer.follow(at))


def _u32(buffer: Flatbuffer, table: Table, number: int) -> int:
    at = buffer.field(table, number)
    return 0 if at is None else buffer.u32(at)
