"""The result of a measurement: times, energy, temperature, and the conditions under which it was taken."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.wire.measure_protocol import MeasureProtocol, Shapes, shapes_to_json
from vitsearch_agent.wire.paired import Milliseconds, Paired, cpu_ms, wall_ms
from vitsearch_agent.wire.processor_counters import Counters
from vitsearch_agent.wire.result_fields import OF_A_MODEL

RAW, PAIRED = "raw", "paired"
"""What a measurement shows (`basis`): its times as they were read, or what its ratio to the reference models gives."""

_number = json_reader.number()
_maybe = json_reader.optional(_number)
_count = json_reader.integer(1)


class Latency(NamedTuple):
    """A distribution of times in milliseconds; a quantile that needs more than `n` samples is None.

    `ci95_low` and `ci95_high` enclose the median with 95 % confidence; they are None for a single process, whose runs
    do not show how processes differ.
    """

    n: int
    p50: float
    p90: Optional[float]
    p95: Optional[float]
    p99: Optional[float]
    mean: float
    min: float
    max: float
    ci95_low: Optional[float]
    ci95_high: Optional[float]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "latency") -> "Latency":
        return cls(**json_reader.read_object(value, _LATENCY, where))


_LATENCY = json_reader.of_fields(Latency, n=_count)


class Contention(NamedTuple):
    """How much other processes used the processor meanwhile, from the scheduler's counters.

    `wait_over_cpu`: seconds ready but not running per second on the processor (idle device: ~0).
    `wall_over_cpu`: wall time per process CPU time of the timed runs (one thread: ~1).
    """

    wait_over_cpu: Optional[float]
    wall_over_cpu: Optional[float]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "contention") -> "Contention":
        return cls(**json_reader.read_object(value, _CONTENTION, where))


_CONTENTION = json_reader.of_fields(Contention)


class Reading(NamedTuple):
    """What a device found out of a metric: a number, or None and the reason why there is none."""

    number: Optional[float]
    reason: Optional[str]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "reading") -> "Reading":
        return cls(**json_reader.read_object(value, _READING, where))


_READING = json_reader.of_fields(Reading)


class Power(NamedTuple):
    """Power and energy of the power phase, which runs batch after batch without a pause.

    `mean_w` is the mean power under load; `idle_w` is the mean power of the rests before and after, with the model
    loaded (not loaded if a tool runs the model: see `reasons["power"]`). `energy_mj` is gross energy per inference
    (as in MLPerf Power); `energy_net_mj` excludes the energy of the device at rest. `scope` is the part of the
    device that the meter `source` covers; `rate_hz` is the actual number of samples per second, `n` their number
    under load. `relative_error` estimates the error of `energy_net_mj` (of `energy_mj` if there is no idle power) as
    a share of it, from scatter, rate, window and the drift of the idle power; None if the load does not rise above
    idle. `further` are other metrics of the phase, by their names: a new one changes no other field.
    """

    mean_w: float
    idle_w: Optional[float]
    energy_mj: float
    energy_net_mj: Optional[float]
    source: str
    scope: str
    estimated: bool
    rate_hz: float
    n: int
    relative_error: Optional[float]
    further: Mapping[str, Reading] = {}

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), further={name: reading.to_json() for name, reading in self.further.items()})

    @classmethod
    def from_json(cls, value: Any, where: str = "power") -> "Power":
        return cls(**json_reader.read_object(value, _POWER, where))


_POWER = json_reader.of_fields(Power, n=_count, further=json_reader.mapping(Reading.from_json))


class Temperature(NamedTuple):
    """Temperature (C) of the hottest relevant zone: at the start, at the end, and the maximum between."""

    zone: str
    start_c: float
    end_c: float
    max_c: float

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "temperature") -> "Temperature":
        return cls(**json_reader.read_object(value, _TEMPERATURE, where))


_TEMPERATURE = json_reader.of_fields(Temperature)


class Measurement(NamedTuple):
    """One valid measurement with its conditions.

    `latency_ms` is wall time and `cpu_ms` process CPU time of a run of one batch, as they were read in so many
    `processes`. `paired` are their ratios to the reference models that ran in the same processes, None where none
    could. `basis` is the one to show and to decide by: `raw`, or `paired` on a machine that others use too. `counters`
    are instructions and cycles for each run. `sustained` is the latency after the protocol's soak.
    `concurrent` is the latency of a run while `protocol.streams` are in flight, from the throughput phase.

    `throughput_ips` is images per second in the throughput phase, or with one batch after another if the protocol has
    no such phase. `peak_memory_mb` (10^6 bytes) is the process' peak above `runtime_baseline_mb`, the memory of the
    runtime without a model. `gpu_memory_mb` (10^6 bytes) is all memory of NVIDIA's GPUs that the process holds after
    its runs, or that a program held while it ran, with the context of CUDA. `swap_mb` is the memory moved to swap
    meanwhile. A value that was not measured is None, and `reasons` explains it; `reasons["interval"]` is there if the
    interval is wider than the protocol asks for.

    `flags`: `contended` (the two reference models disagree too much to correct for other load or, where there are none,
    other load was seen: measure again), `memory_bound` (the time depends on how much cache others leave for the
    weights, which the reference models do not show, so the interval is wide), `within_process` (a single process, so no
    95 % interval), `cpu_fallback` (an NPU left operators to the CPU, which `options` name), `not_steady` (times were
    not steady when the warm-up had to end), `concurrent_io` (the agent received or sent files meanwhile), `swapped`,
    `throttled` (a throttling counter of the device increased), `sustained_throttling` (also in every repeat),
    `warm_start` (the device did not cool down in time), `unverified_device` (measured since the last good canary of a
    device in quarantine).
    `result_fields` explains the fields that all results share.
    """

    job_id: str
    artifact: str
    device_id: str
    environment_id: str
    protocol: MeasureProtocol
    runtime: str
    runtime_version: str
    options: Mapping[str, Any]
    batch: int
    shapes: Optional[Shapes]
    latency_ms: Latency
    cpu_ms: Optional[Latency]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    throughput_ips: Optional[float]
    peak_memory_mb: Optional[float]
    runtime_baseline_mb: Optional[float]
    gpu_memory_mb: Optional[float]
    between_process_rel_spread: Optional[float]
    sustained: Optional[Latency]
    concurrent: Optional[Latency]
    temperature: Optional[Temperature]
    power: Optional[Power]
    swap_mb: Optional[float]
    contention: Contention
    basis: str
    processes: int
    paired: Optional[Paired]
    counters: Optional[Counters]
    flags: Tuple[str, ...]
    reasons: Mapping[str, str]
    attempts: int
    queue_s: float
    seconds: float
    cpu_seconds: float
    emulated: bool
    started_at: str

    @property
    def shown_latency_ms(self) -> Milliseconds:
        """The latency to show and to decide by."""
        if self.basis == PAIRED and self.paired is not None:
            return wall_ms(self.paired, self.paired.times)
        return _raw(self.latency_ms)

    @property
    def shown_cpu_ms(self) -> Optional[Milliseconds]:
        """The CPU time to show and to decide by, None if it was not counted."""
        if self.basis == PAIRED and self.paired is not None:
            return cpu_ms(self.paired, self.paired.times)
        return None if self.cpu_ms is None else _raw(self.cpu_ms)

    def to_json(self) -> Dict[str, Any]:
        value = dict(self._asdict())
        for key in (
            "protocol",
            "latency_ms",
            "cpu_ms",
            "sustained",
            "concurrent",
            "temperature",
            "power",
            "contention",
            "paired",
            "counters",
        ):
            value[key] = None if value[key] is None else value[key].to_json()
        value["shapes"] = None if self.shapes is None else shapes_to_json(self.shapes)
        return dict(value, options=dict(self.options), reasons=dict(self.reasons), flags=list(self.flags))

    @classmethod
    def from_json(cls, value: Any, where: str = "measurement") -> "Measurement":
        return cls(**json_reader.read_object(value, _MEASUREMENT, where))


def _raw(latency: Latency) -> Milliseconds:
    return Milliseconds(latency.p50, latency.ci95_low, latency.ci95_high)


_MEASUREMENT: Mapping[str, json_reader.Reader] = dict(
    OF_A_MODEL,
    protocol=MeasureProtocol.from_json,
    latency_ms=Latency.from_json,
    cpu_ms=json_reader.optional(Latency.from_json),
    load_ms=_maybe,
    first_inference_ms=_maybe,
    throughput_ips=_maybe,
    peak_memory_mb=_maybe,
    runtime_baseline_mb=_maybe,
    gpu_memory_mb=_maybe,
    between_process_rel_spread=_maybe,
    sustained=json_reader.optional(Latency.from_json),
    concurrent=json_reader.optional(Latency.from_json),
    temperature=json_reader.optional(Temperature.from_json),
    power=json_reader.optional(Power.from_json),
    swap_mb=_maybe,
    contention=Contention.from_json,
    basis=json_reader.one_of(RAW, PAIRED),
    processes=json_reader.integer(1),
    paired=json_reader.optional(Paired.from_json),
    counters=json_reader.optional(Counters.from_json),
    flags=json_reader.sequence(json_reader.text),
    reasons=json_reader.mapping(json_reader.text),
)
