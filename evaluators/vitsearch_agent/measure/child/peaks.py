"""The children of a peaks job: matrix products through a runtime, and memory copies.

The products are large enough that arithmetic dominates, and small enough for a small board; the copies are
larger than any cache. Both repeat for the given time and report the best and the median rate.
"""

import struct
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.onnx_writer import ELEMENT_TYPES, Value, field, model, node, number
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child.measured_model import MeasuredModel
from vitsearch_agent.measure.child.process_usage import SchedulerTimes, scheduler_times
from vitsearch_agent.measure.child.timed_loop import Clocks, gc_disabled
from vitsearch_agent.wire.measure_protocol import MeasureProtocol
from vitsearch_agent.wire.results import Rate

COPY = "copy"
GEMM_SIZE = 1024
COPY_BYTES = 64 << 20
_MIN_REPEATS = 5
_IR_VERSION, _OPSET = 7, 13


class _Precision(NamedTuple):
    operator: str
    input: str
    weight: str
    one_weight: bytes
    output: str


_PRECISIONS: Mapping[str, _Precision] = {
    "fp32": _Precision("MatMul", "float32", "float32", struct.pack("<f", 1 / GEMM_SIZE), "float32"),
    "fp16": _Precision("MatMul", "float16", "float16", struct.pack("<H", 0x1400), "float16"),
    "int8": _Precision("MatMulInteger", "uint8", "int8", b"\x01", "int32"),
}
"""All weights are equal and chosen so that sums do not overflow and no value is denormal, which would be slow. 0x1400
is 2^-10."""

PRECISIONS = tuple(_PRECISIONS)


class PeakReport(NamedTuple):
    """`rate` in operations or bytes per second; the scheduler times cover only the repeats, or are None with the
    reason."""

    rate: Rate
    cpu_s: Optional[float]
    wait_s: Optional[float]
    reason: Optional[str]
    runtime_version: Optional[str]
    options: Mapping[str, Any]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), rate=self.rate.to_json(), options=dict(self.options))

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "PeakReport":
        return cls(**json_reader.read_object(value, _REPORT, where))


_REPORT: Mapping[str, json_reader.Reader] = {
    "rate": Rate.from_json,
    "cpu_s": json_reader.optional(json_reader.number(0.0)),
    "wait_s": json_reader.optional(json_reader.number(0.0)),
    "reason": json_reader.optional(json_reader.text),
    "runtime_version": json_reader.optional(json_reader.text),
    "options": json_reader.mapping(),
}


def gemm(measured: MeasuredModel, precision: str) -> PeakReport:
    """Multiply matrices with `protocol.threads` threads for `protocol.min_s` seconds.

    The model is written to the path in `measured`. Raises MeasurementFailed when the runtime does not support it.
    """
    if not measured.runtime.gives_outputs:
        raise MeasurementFailed(
            "runtime_unavailable", f"{measured.runtime.name} gives no outputs, so its products cannot be trusted"
        )
    with open(measured.path, "wb") as stream:
        stream.write(gemm_model(precision))
    session = measured._replace(protocol=measured.protocol._replace(batch=1, shapes={})).load()
    session.run()
    before = scheduler_times()
    rate = repeated(session.run, 2.0 * GEMM_SIZE**3, measured.protocol.min_s, Clocks())
    return _report(rate, before, measured.version, measured.options)


def copy(protocol: MeasureProtocol) -> PeakReport:
    """Copy memory with one thread; bytes read and bytes written both count, as in STREAM."""
    source, target = bytearray(COPY_BYTES), bytearray(COPY_BYTES)
    from_memory, to_memory = memoryview(source), memoryview(target)

    def run() -> None:
        to_memory[:] = from_memory

    run()  # the kernel allocates a page when it is first touched, which must not be timed
    before = scheduler_times()
    rate = repeated(run, 2.0 * COPY_BYTES, protocol.min_s, Clocks())
    return _report(rate, before, None, {})


def repeated(run: Callable[[], None], work: float, seconds: float, clocks: Clocks) -> Rate:
    """Run for `seconds` and at least 5 times; return the rate of `work` per second."""
    times: List[float] = []
    with gc_disabled():
        end = clocks.wall() + seconds
        while len(times) < _MIN_REPEATS or clocks.wall() < end:
            start = clocks.wall()
            run()
            times.append(clocks.wall() - start)
    times.sort()
    if times[0] <= 0:
        raise MeasurementFailed("protocol", "the clock does not advance")
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    return Rate(work / times[0], work / middle, len(times))


def gemm_model(precision: str) -> bytes:
    """Return an ONNX file that multiplies [1, size, size] by a constant [size, size]."""
    kind, size = _PRECISIONS[precision], GEMM_SIZE
    weight = number(1, size) + number(1, size) + number(2, ELEMENT_TYPES[kind.weight])
    weight += field(8, b"weight") + field(9, kind.one_weight * (size * size))
    product = node(kind.operator, ["image", "weight"], "product")
    image, result = Value("image", kind.input, (1, size, size)), Value("product", kind.output, (1, size, size))
    return model([product], [image], [result], _OPSET, _IR_VERSION, [weight])


def _report(rate: Rate, before: SchedulerTimes, version: Optional[str], options: Mapping[str, Any]) -> PeakReport:
    spent = scheduler_times().since(before)
    return PeakReport(rate, spent.cpu_s, spent.wait_s, spent.reason, version, options)
