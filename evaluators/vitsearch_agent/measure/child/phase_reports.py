"""The reports of the measuring processes, one class for each kind of phase."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.measure_protocol import MOST_RUNS, Shapes, read_shapes
from vitsearch_agent.wire.processor_counters import Counters


class Block(NamedTuple):
    """The runs of one model within some 15 ms: their median CPU time and their mean wall time, in ms."""

    cpu_ms: float
    wall_ms: float


class PairedBlock(NamedTuple):
    """A block of the model, and the blocks of the two reference models right before and after it."""

    model: Block
    products: Block
    convolutions: Block


class ProcessReport(NamedTuple):
    """The report of one measuring process; a missing figure is None with its reason (`cpu_ms`: empty).

    `bursts` holds the blocks of each burst, and nothing where no reference model ran beside the model. `sleeps` counts
    voluntary context switches during the samples; a model that runs on the CPU alone has none. `steady` is whether
    warm-up ended because the times were steady.
    """

    wall_ms: Tuple[float, ...]
    cpu_ms: Tuple[float, ...]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    peak_memory_mb: Optional[float]
    runtime_baseline_mb: Optional[float]
    gpu_memory_mb: Optional[float]
    scheduler_cpu_s: Optional[float]
    scheduler_wait_s: Optional[float]
    sleeps: Optional[int]
    steady: bool
    runtime_version: str
    options: Mapping[str, Any]
    reasons: Mapping[str, str]
    batch: int
    shapes: Optional[Shapes]
    bursts: Tuple[Tuple[PairedBlock, ...], ...] = ()
    counters: Optional[Counters] = None

    def to_json(self) -> Dict[str, Any]:
        counters = None if self.counters is None else dict(self.counters._asdict())
        return dict(self._asdict(), counters=counters)

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "ProcessReport":
        return cls(**json_reader.read_object(value, _PROCESS, where))


_time = json_reader.number(0.0)


def _block(value: Any, where: str) -> Block:
    times = json_reader.sequence(_time, 2)(value, where)
    if len(times) != 2:
        raise InvalidRequest(f"{where}: expected [cpu_ms, wall_ms], got {value!r}")
    return Block(*times)


def _paired_block(value: Any, where: str) -> PairedBlock:
    blocks = json_reader.sequence(_block, 3)(value, where)
    if len(blocks) != 3:
        raise InvalidRequest(f"{where}: expected the blocks of the model and of two references, got {len(blocks)}")
    return PairedBlock(*blocks)


_PROCESS: Mapping[str, json_reader.Reader] = {
    "wall_ms": json_reader.sequence(_time, MOST_RUNS),
    "cpu_ms": json_reader.sequence(_time, MOST_RUNS),
    "load_ms": json_reader.optional(_time),
    "first_inference_ms": json_reader.optional(_time),
    "peak_memory_mb": json_reader.optional(_time),
    "runtime_baseline_mb": json_reader.optional(_time),
    "gpu_memory_mb": json_reader.optional(_time),
    "scheduler_cpu_s": json_reader.optional(_time),
    "scheduler_wait_s": json_reader.optional(_time),
    "sleeps": json_reader.optional(json_reader.integer()),
    "steady": json_reader.boolean,
    "runtime_version": json_reader.text,
    "options": json_reader.mapping(),
    "reasons": json_reader.mapping(json_reader.text),
    "batch": json_reader.integer(1),
    "shapes": json_reader.optional(read_shapes),
    "bursts": json_reader.sequence(json_reader.sequence(_paired_block)),
    "counters": json_reader.optional(Counters.from_json),
}


class ThroughputReport(NamedTuple):
    """The throughput of all streams together in images per second, from `runs` runs of a batch, and the wall times of
    runs that are spread evenly over the phase (empty: a program reports none)."""

    images_per_s: float
    runs: int
    wall_ms: Tuple[float, ...]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "ThroughputReport":
        return cls(**json_reader.read_object(value, _THROUGHPUT, where))


_THROUGHPUT: Mapping[str, json_reader.Reader] = {
    "images_per_s": json_reader.number(0.0),
    "runs": json_reader.integer(1),
    "wall_ms": json_reader.sequence(_time, MOST_RUNS),
}


class PowerReport(NamedTuple):
    """The windows of a power phase, each (start, end) in seconds of the machine's monotonic clock.

    `inferences` counts the images of all runs within `load`. `note` describes what is special about the idle
    windows.
    """

    idle_before: Tuple[float, float]
    load: Tuple[float, float]
    idle_after: Tuple[float, float]
    inferences: int
    note: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "PowerReport":
        return cls(**json_reader.read_object(value, _POWER, where, {"note": None}))


def _window(value: Any, where: str) -> Tuple[float, float]:
    ends = json_reader.sequence(json_reader.number(), 2)(value, where)
    if len(ends) != 2:
        raise InvalidRequest(f"{where}: expected [start, end], got {value!r}")
    return ends[0], ends[1]


_POWER: Mapping[str, json_reader.Reader] = {
    "idle_before": _window,
    "load": _window,
    "idle_after": _window,
    "inferences": json_reader.integer(1),
    "note": json_reader.optional(json_reader.text),
}
