"""What a device answers: measurements, what the device is, how a job stands."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from vitsearch_evaluators import strict
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.jobspec import MeasureProtocol, Owner
from vitsearch_evaluators.results import AccuracyResult, ProbeResult

_number = strict.number()
_maybe = strict.optional(_number)


class Latency(NamedTuple):
    """A distribution of times in milliseconds; a quantile that `n` cannot support is None.

    `ci95_low` and `ci95_high` enclose the median with 95 % confidence.
    """

    n: int
    p50: float
    p90: Optional[float]
    p95: Optional[float]
    p99: Optional[float]
    mean: float
    min: float
    max: float
    ci95_low: float
    ci95_high: float

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "latency") -> "Latency":
        return cls(**strict.read_object(value, _LATENCY, where))


_LATENCY = {
    "n": strict.integer(1),
    "p50": _number,
    "p90": _maybe,
    "p95": _maybe,
    "p99": _maybe,
    "mean": _number,
    "min": _number,
    "max": _number,
    "ci95_low": _number,
    "ci95_high": _number,
}


class Contention(NamedTuple):
    """How much others used the processor meanwhile, from the scheduler's own counters.

    `wait_over_cpu`: seconds ready but not running per second on the processor (idle device: ~0).
    `wall_over_cpu`: wall time per process CPU time of the timed runs (one thread: ~1).
    """

    wait_over_cpu: Optional[float]
    wall_over_cpu: Optional[float]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "contention") -> "Contention":
        return cls(**strict.read_object(value, _CONTENTION, where))


_CONTENTION = {"wait_over_cpu": _maybe, "wall_over_cpu": _maybe}


class Power(NamedTuple):
    """Power and energy of the power phase, batch after batch without a pause.

    `mean_w` is the mean under load, `idle_w` that of the rests before and after with the model
    loaded. `energy_mj` is gross, per inference (as MLPerf Power counts); `energy_net_mj` without
    what the device would have used at rest. `scope` says what is behind the meter `source`;
    `rate_hz` the looks per second that there really were, `n` their number under load.
    `relative_error` estimates the error of `energy_net_mj` (without idle power: of `energy_mj`) as a
    share of it, from scatter, rate, window and the drift of the idle power; None when the load does
    not rise above idle.
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

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "power") -> "Power":
        return cls(**strict.read_object(value, _POWER, where))


_POWER = {
    "mean_w": _number,
    "idle_w": _maybe,
    "energy_mj": _number,
    "energy_net_mj": _maybe,
    "source": strict.text,
    "scope": strict.text,
    "estimated": strict.boolean,
    "rate_hz": _number,
    "n": strict.integer(1),
    "relative_error": _maybe,
}


class Temperature(NamedTuple):
    """Degrees Celsius of the hottest zone that counts: at the start, at the end, and the largest between."""

    zone: str
    start_c: float
    end_c: float
    max_c: float

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "temperature") -> "Temperature":
        return cls(**strict.read_object(value, _TEMPERATURE, where))


_TEMPERATURE = {"zone": strict.text, "start_c": _number, "end_c": _number, "max_c": _number}


class Measurement(NamedTuple):
    """One valid measurement with its conditions.

    `latency_ms` is wall time and `cpu_ms` process CPU time of a run of one batch. `sustained` is
    latency after the protocol's soak. `throughput_ips` counts images per second in the throughput
    phase, and one batch after another where the protocol has none. `peak_memory_mb` (10^6 bytes)
    is the process' peak over `runtime_baseline_mb`, what the runtime needs with no model; `swap_mb`
    what was moved to swap meanwhile. What was not measured is None and `reasons` says why.

    `flags`: `contended` (other load on the processor), `not_steady` (times had not settled when
    warm-up had to end), `concurrent_io` (the agent took or sent files meanwhile), `swapped`, `throttled` (a
    counter of the device moved), `sustained_throttling` (again, after every repeat), `warm_start`
    (it did not cool down in time), `unverified_device` (measured since the last good canary of a
    device in quarantine).
    `attempts` counts starts, more than 1 after an interruption; `queue_s` and `seconds` are waiting
    and working time. `started_at` is UTC by the device's own clock.
    """

    job_id: str
    artifact: str
    device_id: str
    environment_id: str
    protocol: MeasureProtocol
    runtime: str
    runtime_version: str
    options: Mapping[str, Any]
    latency_ms: Latency
    cpu_ms: Optional[Latency]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    throughput_ips: float
    peak_memory_mb: Optional[float]
    runtime_baseline_mb: Optional[float]
    between_process_rel_spread: Optional[float]
    sustained: Optional[Latency]
    temperature: Optional[Temperature]
    power: Optional[Power]
    swap_mb: Optional[float]
    contention: Contention
    flags: Tuple[str, ...]
    reasons: Mapping[str, str]
    attempts: int
    queue_s: float
    seconds: float
    emulated: bool
    started_at: str

    def to_json(self) -> Dict[str, Any]:
        value = dict(self._asdict())
        for key in ("protocol", "latency_ms", "cpu_ms", "sustained", "temperature", "power", "contention"):
            value[key] = None if value[key] is None else value[key].to_json()
        return dict(value, options=dict(self.options), reasons=dict(self.reasons), flags=list(self.flags))

    @classmethod
    def from_json(cls, value: Any, where: str = "measurement") -> "Measurement":
        return cls(**strict.read_object(value, _MEASUREMENT, where))


_MEASUREMENT: Mapping[str, strict.Reader] = {
    "job_id": strict.sha256,
    "artifact": strict.sha256,
    "device_id": strict.text,
    "environment_id": strict.sha256,
    "protocol": MeasureProtocol.from_json,
    "runtime": strict.text,
    "runtime_version": strict.text,
    "options": strict.mapping(),
    "latency_ms": Latency.from_json,
    "cpu_ms": strict.optional(Latency.from_json),
    "load_ms": _maybe,
    "first_inference_ms": _maybe,
    "throughput_ips": _number,
    "peak_memory_mb": _maybe,
    "runtime_baseline_mb": _maybe,
    "between_process_rel_spread": _maybe,
    "sustained": strict.optional(Latency.from_json),
    "temperature": strict.optional(Temperature.from_json),
    "power": strict.optional(Power.from_json),
    "swap_mb": _maybe,
    "contention": Contention.from_json,
    "flags": strict.sequence(strict.text),
    "reasons": strict.mapping(strict.text),
    "attempts": strict.integer(1),
    "queue_s": _number,
    "seconds": _number,
    "emulated": strict.boolean,
    "started_at": strict.text,
}


ANY_ARTIFACT = "any"
"""Stands in `RuntimeInfo.artifacts` for a runtime that does not look into the file."""


class RuntimeInfo(NamedTuple):
    """A runtime of the device; `reason` says why it is not available, None when it is.

    `artifacts` are the kinds of files that it takes (`onnx`, `tflite`, `openvino`); `max_opset` and
    `max_ir_version` the newest ONNX that it reads, None where it does not say. A client asks here
    before it sends a file. `program` is the interpreter or the tool that runs it.
    """

    name: str
    available: bool
    reason: Optional[str]
    version: Optional[str]
    providers: Tuple[str, ...]
    artifacts: Tuple[str, ...] = ("onnx",)
    max_opset: Optional[int] = None
    max_ir_version: Optional[int] = None
    precisions: Tuple[str, ...] = ()
    program: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        value = dict(self._asdict())
        return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}

    @classmethod
    def from_json(cls, value: Any, where: str = "runtime") -> "RuntimeInfo":
        return cls(**strict.read_object(value, _RUNTIME, where))


_RUNTIME = {
    "name": strict.text,
    "available": strict.boolean,
    "reason": strict.optional(strict.text),
    "version": strict.optional(strict.text),
    "providers": strict.sequence(strict.text),
    "artifacts": strict.sequence(strict.text),
    "max_opset": strict.optional(strict.integer(1)),
    "max_ir_version": strict.optional(strict.integer(1)),
    "precisions": strict.sequence(strict.text),
    "program": strict.optional(strict.text),
}


class DeviceInfo(NamedTuple):
    """What answers at an address. `environment_id` is the digest of `fingerprint`.

    `kind` is `physical` or `emulated`; `emulation` then says how. `power_meter` is the source that
    power phases read, None when there is none. `quarantined` says why the device's numbers are not
    trusted now (its canary drifted), None when they are.
    """

    api_min: int
    api_max: int
    agent_version: str
    device_id: str
    kind: str
    environment_id: str
    fingerprint: Mapping[str, Any]
    runtimes: Tuple[RuntimeInfo, ...]
    job_kinds: Tuple[str, ...]
    max_blob_bytes: int
    queued: int
    running: int
    memory_mb: Optional[int] = None
    power_meter: Optional[str] = None
    quarantined: Optional[str] = None
    emulation: Optional[Mapping[str, Any]] = None

    def to_json(self) -> Dict[str, Any]:
        return dict(
            self._asdict(),
            fingerprint=dict(self.fingerprint),
            runtimes=[runtime.to_json() for runtime in self.runtimes],
            job_kinds=list(self.job_kinds),
            emulation=None if self.emulation is None else dict(self.emulation),
        )

    @classmethod
    def from_json(cls, value: Any, where: str = "device") -> "DeviceInfo":
        return cls(**strict.read_object(value, _DEVICE, where))


_DEVICE: Mapping[str, strict.Reader] = {
    "api_min": strict.integer(1),
    "api_max": strict.integer(1),
    "agent_version": strict.text,
    "device_id": strict.text,
    "kind": strict.text,
    "environment_id": strict.sha256,
    "fingerprint": strict.mapping(),
    "runtimes": strict.sequence(RuntimeInfo.from_json),
    "job_kinds": strict.sequence(strict.text),
    "max_blob_bytes": strict.integer(1),
    "queued": strict.integer(),
    "running": strict.integer(),
    "memory_mb": strict.optional(strict.integer(1)),
    "power_meter": strict.optional(strict.text),
    "quarantined": strict.optional(strict.text),
    "emulation": strict.optional(strict.mapping()),
}

FINAL_STATES = ("done", "failed", "cancelled")
JOB_STATES = ("queued", "running") + FINAL_STATES


Result = Union[Measurement, AccuracyResult, ProbeResult]
RESULTS: Mapping[str, strict.Reader] = {
    "measure": Measurement.from_json,
    "accuracy": AccuracyResult.from_json,
    "probe": ProbeResult.from_json,
}
"""Kind of job -> the reader of its result."""


class JobStatus(NamedTuple):
    """How a job stands; `result` (by its `kind`) only when done, `error` (JSON of an EvaluatorError) if failed."""

    id: str
    state: str
    owner: Owner
    attempts: int
    error: Optional[Mapping[str, Any]]
    result: Optional[Result]
    kind: str = "measure"

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    def to_json(self) -> Dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "owner": self.owner.to_json(),
            "attempts": self.attempts,
            "error": None if self.error is None else dict(self.error),
            "result": None if self.result is None else self.result.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "job") -> "JobStatus":
        status = strict.read_object(value, _STATUS, where)
        if status["kind"] not in RESULTS:
            raise InvalidRequest(f"{where}.kind: {status['kind']!r} is not one of {', '.join(RESULTS)}")
        read = strict.optional(RESULTS[status["kind"]])
        return cls(**dict(status, result=read(status["result"], f"{where}.result")))


_STATUS: Mapping[str, strict.Reader] = {
    "id": strict.sha256,
    "kind": strict.text,
    "state": strict.text,
    "owner": Owner.from_json,
    "attempts": strict.integer(),
    "error": strict.optional(strict.mapping()),
    "result": strict.optional(strict.mapping()),
}
