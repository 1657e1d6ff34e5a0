"""From a job to a Measurement: one fresh child after another, then what they report together.

latency x processes --> sustained --> throughput --> power      each only if the protocol asks for it
"""

import abc
import contextlib
import functools
import os
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from vitsearch_evaluators import measure, observation, phases, runtimes
from vitsearch_evaluators.bench import Bench
from vitsearch_evaluators.canonical import parse_json
from vitsearch_evaluators.child import ChildDied, read_answer
from vitsearch_evaluators.config import RUNTIME_DEFAULT, RuntimeConfig
from vitsearch_evaluators.deaths import FROM_OUTSIDE
from vitsearch_evaluators.device_info import RuntimeInfo
from vitsearch_evaluators.emulation import slowed
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest, MeasurementFailed, StorageFull
from vitsearch_evaluators.files import write_json
from vitsearch_evaluators.jobspec import JobSpec, MeasureProtocol
from vitsearch_evaluators.launch import Launch, candidates
from vitsearch_evaluators.measurement import Measurement, Power
from vitsearch_evaluators.runtimes.tool import Untold
from vitsearch_evaluators.system import THIS_MACHINE, System
from vitsearch_evaluators.watch import Watch, tell_nobody

_PROBE_S = 120.0
_PROBES = 3
PREPARE_S = 1800.0
"""TensorRT builds an engine of a larger transformer on a small Jetson for many minutes."""


class Conditions(NamedTuple):
    """What a measurement says about where and how it was taken, known before it starts.

    `slowdown` is that of an emulated device, None for a real one.
    """

    job_id: str
    device_id: str
    environment_id: str
    attempts: int
    queue_s: float
    slowdown: Optional[float] = None


def probe_runtime(
    name: str, bench: Bench, config: RuntimeConfig = RUNTIME_DEFAULT, system: System = THIS_MACHINE
) -> RuntimeInfo:
    """Ask children whether a runtime can be used, under each interpreter that may have it; the first that can
    is its own from now on. The bench's own launch is not used."""
    reasons = []
    try:
        for candidate in candidates(name, config, system):
            info = RuntimeInfo(name, False, candidate.reason, None, ())
            if candidate.reason is None:
                info = _probe(name, bench._replace(launch=candidate.launch))
            if info.available:
                return info._replace(program=candidate.launch.program)
            reasons.append(str(info.reason))
    except StorageFull:
        raise
    except (EvaluatorError, ImportError, AttributeError) as error:  # no such runtime, or another package's is broken
        reasons.append(str(error))
    return RuntimeInfo(name, False, "; ".join(reasons), None, ())


def _probe(name: str, bench: Bench) -> RuntimeInfo:
    """Ask a child; a crash is an answer too."""
    job = {"kind": "probe", "runtime": name, "answer": f"probe-{name}.json"}
    answer_path = os.path.join(bench.folder, job["answer"])
    if os.path.exists(answer_path):
        os.remove(answer_path)
    for attempt in range(1, _PROBES + 1):
        try:
            state = bench.run("probe", job, _PROBE_S).get("availability")
        except ChildDied as death:
            if death.death in FROM_OUTSIDE and attempt < _PROBES:
                continue
            return RuntimeInfo(name, False, str(death), None, ())
        except MeasurementFailed as failure:
            return RuntimeInfo(name, False, _told(failure, bench.launch), None, ())
        return RuntimeInfo.from_json(dict(state or {}, name=name, program=None))
    raise AssertionError("unreachable")


def _told(failure: MeasurementFailed, launch: Launch) -> str:
    """The last line of a Python that fails at its start is the reason for it."""
    tail = str(failure.details.get("output_tail", "")).strip().splitlines()
    if failure.kind != "crash" or not tail:
        return str(failure)
    return f"{launch.python}: {failure}: {tail[-1]}"


class PowerRecorder(abc.ABC):
    """Reads the device's meter while the power phase's process lives."""

    @abc.abstractmethod
    def absent(self) -> Optional[str]:
        """Look for the meter; return why there is none, None when it can be read."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin; called right before the process starts."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End; called however the process ended."""

    @abc.abstractmethod
    def power(self, report: phases.PowerReport) -> Tuple[Optional[Power], Optional[str]]:
        """Return what the looks at the meter say about the process' windows, or None and the reason."""


def execute(
    spec: JobSpec,
    conditions: Conditions,
    bench: Bench,
    recorder: Optional[PowerRecorder] = None,
    system: System = THIS_MACHINE,
    tell: Callable[..., None] = tell_nobody,
) -> Measurement:
    """Measure the model whose files lie in the bench's folder under the names of the manifest.

    Answers that an earlier attempt left there are used when they were taken in the same environment.
    `tell` hears what happens beside the processes (`events`). Raises what `run_child` does.
    """
    start = time.monotonic()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    protocol = spec.protocol
    watch = Watch(system, protocol, bench.stop.is_set, tell=tell)
    children = _Children(spec, conditions.environment_id[:16], bench, watch)
    if runtimes.create(spec.runtime).prepares:
        children.prepare()
    reports = [
        children.report("latency", measure.ProcessReport.from_json, index) for index in range(protocol.processes)
    ]
    sustained, untold = None, None
    if protocol.soak_s > 0:
        sustained, untold = children.told("sustained", measure.ProcessReport.from_json)
    try:
        fields = measure.combine(reports, protocol, sustained)
    except ValueError as error:
        raise MeasurementFailed("protocol", f"the child's samples: {error}") from error
    if untold is not None:
        fields["reasons"]["sustained"] = untold
    if protocol.throughput_s > 0:
        counted, untold = children.told("throughput", phases.ThroughputReport.from_json)
        fields["throughput_ips"] = None if counted is None else counted.images_per_s
        if untold is not None:
            fields["reasons"]["throughput_ips"] = untold
    fields["power"], reason = _power(children, recorder)
    if reason is not None:
        fields["reasons"]["power"] = reason
    device = observation.summarize(watch.observations)
    fields["reasons"].update(device.reasons)
    fields["flags"] += device.flags
    measurement = Measurement(
        job_id=conditions.job_id,
        artifact=spec.artifact,
        device_id=conditions.device_id,
        environment_id=conditions.environment_id,
        protocol=protocol,
        runtime=spec.runtime,
        attempts=conditions.attempts,
        queue_s=conditions.queue_s,
        seconds=time.monotonic() - start,
        emulated=False,
        started_at=started_at,
        temperature=device.temperature,
        swap_mb=device.swap_mb,
        **fields,
    )
    return measurement if conditions.slowdown is None else slowed(measurement, conditions.slowdown)


def wall_limit_s(phase: str, protocol: MeasureProtocol) -> float:
    """Return how long the process of a phase may live: what loading and sampling may take, and its own time."""
    own_s = {
        "latency": 0.0,
        "sustained": protocol.soak_s,
        "throughput": protocol.throughput_s,
        "power": protocol.power_s + 2 * protocol.idle_s,
        "prepare": PREPARE_S,
    }
    return protocol.max_s + own_s[phase]


class _Children(NamedTuple):
    """Starts the processes of one job, each of which leaves its answer in a file of its own."""

    spec: JobSpec
    environment: str
    bench: Bench
    watch: Watch

    def path(self, name: str) -> str:
        # The environment is in the name: what was measured before an update is not found after it.
        return os.path.join(self.bench.folder, f"answer-{self.environment}-{name}.json")

    def report(self, phase: str, read: Callable[[Any], Any], index: Optional[int] = None) -> Any:
        """Return the report of a process: what an earlier attempt left, else of one that is started now."""
        name = phase if index is None else str(index)
        path, seen = self.path(name), self.path(name + "-seen")
        answer = self._left(path, seen)
        if answer is None:
            answer = self.watch.over(phase, functools.partial(self._run, phase, path), seen)
        if isinstance(answer.get("untold"), str):
            raise Untold(answer["untold"])
        try:
            return read(answer.get("report"))
        except InvalidRequest as error:
            raise MeasurementFailed("protocol", f"the child's answer: {error}") from error

    def _left(self, path: str, seen: str) -> Optional[Dict[str, Any]]:
        """Return the answer that an earlier attempt left; None without one, or when the disk has spoilt it."""
        try:
            answer = read_answer(path)
        except (OSError, MeasurementFailed):
            return None
        # What was seen is written last: an answer without it is of an attempt that was cut off between the two.
        return answer if self.watch.recall(seen) else None

    def told(self, phase: str, read: Callable[[Any], Any]) -> Tuple[Optional[Any], Optional[str]]:
        """Return the report of a phase that the job can do without, or None and the reason why there is none."""
        try:
            return self.report(phase, read), None
        except Untold as untold:
            return None, str(untold)

    def prepare(self) -> None:
        """Each time anew: what an earlier attempt prepared is found, or has gone meanwhile."""
        self._run("prepare", self.path("prepare"))

    def _run(self, phase: str, path: str) -> Dict[str, Any]:
        """All processes of all phases pass here."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)  # of a process that was throttled
        job = {
            "kind": self.spec.kind,
            "phase": phase,
            "runtime": self.spec.runtime,
            "options": dict(self.spec.options),
            "protocol": self.spec.protocol.to_json(),
            "model": self.spec.model_name,
            "answer": os.path.basename(path),
            "environment": self.environment,
        }
        return self.bench.run(phase, job, wall_limit_s(phase, self.spec.protocol))


def _power(children: _Children, recorder: Optional[PowerRecorder]) -> Tuple[Optional[Power], Optional[str]]:
    """Run the power phase while the meter is read; without a meter there is nothing to run for."""
    if children.spec.protocol.power_s == 0:
        return None, "the protocol has no power phase"
    if recorder is None:
        return None, "no power meter"
    kept = children.path("power-read")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, InvalidRequest):  # not there, or spoilt
        with open(kept, "rb") as stream:
            found = parse_json(stream.read())
        return (None if found["power"] is None else Power.from_json(found["power"])), found["reason"]
    reason = recorder.absent()
    if reason is not None:
        return None, reason
    # An answer without its looks at the meter is of an attempt that was cut off between the two.
    with contextlib.suppress(FileNotFoundError):
        os.remove(children.path("power"))
    recorder.start()
    try:
        report, reason = children.told("power", phases.PowerReport.from_json)
    finally:
        recorder.stop()
    power, reason = (None, reason) if report is None else recorder.power(report)
    write_json(kept, {"power": None if power is None else power.to_json(), "reason": reason})
    return power, reason
