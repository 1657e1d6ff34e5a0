"""Measure jobs: run one child after another and combine their reports into a Measurement.

latency x processes --> sustained --> throughput --> power      the last three only if the protocol asks for them

Latency processes follow one another until the interval is as narrow as the protocol asks for (`timing`).
"""

import abc
import contextlib
import functools
import os
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent import runtimes
from vitsearch_agent.base.system import THIS_MACHINE, System
from vitsearch_agent.conditions import observation
from vitsearch_agent.conditions.emulation import apply_slowdown
from vitsearch_agent.conditions.monitor import Monitor, ignore_event
from vitsearch_agent.conditions.observation import Observation
from vitsearch_agent.conditions.processor import is_virtual
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child.phase_reports import PowerReport, ProcessReport, ThroughputReport
from vitsearch_agent.measure.expected_sizes import expected_sizes
from vitsearch_agent.measure.figures.combine import combine, of_streams
from vitsearch_agent.measure.figures.plausibility import Bounds
from vitsearch_agent.measure.figures.reference_store import ReferenceKey, ReferenceStore
from vitsearch_agent.measure.figures.timing import DeviceTimes, Timing
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder, answer_file_name, parse_report
from vitsearch_agent.measure.seen import Seen
from vitsearch_agent.measure.warm_parents import ParentKey
from vitsearch_agent.runtimes.tools.tool_runtime import NotProvided, ToolRuntime
from vitsearch_agent.wire.job_spec import JobSpec
from vitsearch_agent.wire.measure_protocol import REFERENCE, MeasureProtocol
from vitsearch_agent.wire.measurement import Measurement, Power

PARENTS = 3
"""The processes of a measurement that follow the first are forked from so many parents in turn."""
PREPARE_S = 1800.0
"""Building a TensorRT engine of a larger transformer takes many minutes on a small Jetson."""


class PowerRecorder(abc.ABC):
    """Reads the device's meter while the process of the power phase runs."""

    @abc.abstractmethod
    def unavailable_reason(self) -> Optional[str]:
        """Look for a meter; return the reason why there is none, None when one can be read."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start reading; called right before the process starts."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop reading; called however the process ended."""

    @abc.abstractmethod
    def power(self, report: PowerReport) -> Tuple[Optional[Power], Optional[str]]:
        """Return the power in the process's windows, or None and the reason."""


def measure_job(
    spec: JobSpec,
    context: JobContext,
    job_folder: JobFolder,
    recorder: Optional[PowerRecorder] = None,
    system: System = THIS_MACHINE,
    on_event: Callable[..., None] = ignore_event,
    references: Optional[ReferenceStore] = None,
) -> Measurement:
    """Measure the model whose files are in the job's folder under the names of the manifest.

    Answers of an earlier attempt in the same environment are used again. `on_event` receives the events
    between the processes (`events`); `references` learns the times of the reference models. Raises what `run_child`
    raises, MeasurementFailed `protocol` for reference models that this version does not have, and EnvironmentChanged
    where a process ran another version of the runtime than the context's.
    """
    context = context.of_job(spec)
    started = context.start()
    protocol = spec.protocol
    if protocol.reference not in (None, REFERENCE):
        raise MeasurementFailed(
            "protocol",
            f"the protocol asks for the reference models {protocol.reference}; this version has {REFERENCE}",
        )
    monitor = Monitor(system, protocol, job_folder.stop.is_set, on_event=on_event)
    # Whatever ended a process of an earlier attempt: a fork shall not be the cause a second time.
    job_folder = job_folder if context.attempts == 1 else job_folder._replace(parents=None)
    runtime = runtimes.create(spec.runtime)
    sizes = expected_sizes(spec, job_folder.folder)
    bounds = Bounds(protocol, isinstance(runtime, ToolRuntime), os.cpu_count() or 1, sizes)
    children = _Children(spec, context.environment_id, job_folder, monitor, bounds)
    if runtime.prepares:
        children.prepare()
    key = ReferenceKey(str(protocol.reference), context.environment_id, spec.runtime, protocol.threads)
    device_times = DeviceTimes(references or ReferenceStore(), key, is_virtual(system), spec.artifact)
    timing = Timing(protocol, sum(blob.size for blob in spec.model), device_times)
    while timing.needs_another():
        report, is_new = children.latency(len(timing.reports))
        context.refuse_version(spec.runtime, report.runtime_version)
        timing.add(report, is_new)
    sustained, not_provided = None, None
    if protocol.soak_s > 0:
        impossible = functools.partial(children.bounds.of_process, is_started=True, soak_s=protocol.soak_s)
        sustained, not_provided = children.optional_report(_Phase("sustained", ProcessReport.from_json, impossible))
        context.refuse_version(spec.runtime, None if sustained is None else sustained.runtime_version)
    try:
        fields = combine(timing.reports, protocol, sustained)
    except ValueError as error:
        raise MeasurementFailed("protocol", f"the child's samples: {error}") from error
    fields.update(timing.fields())
    fields["reasons"].update(timing.reasons())
    if not_provided is not None:
        fields["reasons"]["sustained"] = not_provided
    _add_throughput(fields, children)
    fields["power"], reason = _power(children, recorder, fields["batch"], fields["latency_ms"].min)
    if reason is not None:
        fields["reasons"]["power"] = reason
    device = observation.summarize(monitor.observations)
    fields["reasons"].update(device.reasons)
    fields["flags"] += timing.flags() + tuple(device.flags)
    measurement = Measurement(
        artifact=spec.artifact,
        protocol=protocol,
        runtime=spec.runtime,
        temperature=device.temperature,
        swap_mb=device.swap_mb,
        **fields,
        **started.fields(),
    )
    return measurement if context.slowdown is None else apply_slowdown(measurement, context.slowdown)


def _add_throughput(fields: Dict[str, Any], children: "_Children") -> None:
    """Add what the throughput phase gives, if the protocol has one."""
    reasons = fields["reasons"]
    if children.spec.protocol.throughput_s == 0:
        fields["concurrent"], reasons["concurrent"] = None, "the protocol has no throughput phase"
        return
    reasons.pop("throughput_ips", None)  # that of the rate of one run after the other
    impossible = functools.partial(children.bounds.of_throughput, batch=fields["batch"])
    report, not_provided = children.optional_report(_Phase("throughput", ThroughputReport.from_json, impossible))
    if report is None:
        fields.update(throughput_ips=None, concurrent=None)
        reasons.update(throughput_ips=str(not_provided), concurrent=str(not_provided))
        return
    counted, missing = of_streams(report)
    fields.update(counted)
    reasons.update(missing)


def wall_limit_s(phase: str, protocol: MeasureProtocol) -> float:
    """Return the time limit of a phase's process: the protocol's, plus the phase's own duration."""
    own_s = {
        "latency": 0.0,
        "sustained": protocol.soak_s,
        "throughput": protocol.throughput_s,
        "power": protocol.power_s + 2 * protocol.idle_s,
        "prepare": PREPARE_S,
    }
    return protocol.timeout_s + own_s[phase]


class _Phase(NamedTuple):
    """What a process runs, how its report is read, and what is `impossible` in it, by what was seen of the process."""

    name: str
    read: Callable[[Any], Any]
    impossible: Callable[[Any, Seen], Optional[str]]

    def report(self, answer: Mapping[str, Any]) -> Any:
        """Return the report in an answer; MeasurementFailed `protocol` for none and for an impossible one."""
        if isinstance(answer.get("not_provided"), str):
            raise NotProvided(answer["not_provided"])
        report = parse_report(answer, self.read)
        reason = self.impossible(report, Seen.from_json(answer["seen"]))
        if reason is not None:
            raise MeasurementFailed("protocol", f"the {self.name} process reported what cannot be: {reason}")
        return report


class _Children(NamedTuple):
    """The processes of one job; each answer has its own file."""

    spec: JobSpec
    environment_id: str
    job_folder: JobFolder
    monitor: Monitor
    bounds: Bounds

    def file(self, name: str) -> str:
        return answer_file_name(self.environment_id, name)

    def latency(self, index: int) -> Tuple[ProcessReport, bool]:
        """Return the report of the process with this number, and whether it has run in this attempt."""
        impossible = functools.partial(self.bounds.of_process, is_started=index == 0)
        phase = _Phase("latency", ProcessReport.from_json, impossible)
        report, is_new = self._report(phase, str(index), self._parent(index))
        return report, is_new

    def _parent(self, index: int) -> Optional[ParentKey]:
        """Return the parent of the latency process with this number. The first one has none: its memory and its times
        to load are those of a user's process."""
        if index == 0 or not runtimes.create(self.spec.runtime).survives_fork(self.spec.options):
            return None
        return ParentKey(self.environment_id, self.spec.runtime, (index - 1) % PARENTS)

    def optional_report(self, phase: _Phase) -> Tuple[Optional[Any], Optional[str]]:
        """Return the report of the only process of a phase whose absence does not fail the job, or None and the
        reason."""
        try:
            return self._report(phase, phase.name)[0], None
        except NotProvided as not_provided:
            return None, str(not_provided)

    def _report(self, phase: _Phase, name: str, parent: Optional[ParentKey] = None) -> Tuple[Any, bool]:
        """Return the report of an earlier attempt, otherwise of a new process, and whether it is new."""
        record = self.job_folder.record(self.file(name))
        with contextlib.suppress(InvalidRequest, MeasurementFailed, KeyError):  # missing or damaged
            report = phase.report(record["answer"])
            self.monitor.restore(Observation.from_json(record["observation"]))
            return report, False
        answer = self.monitor.run(phase.name, functools.partial(self._run, phase.name, self.file(name), parent))
        report = phase.report(answer)
        observation = self.monitor.observations[-1].to_json()
        self.job_folder.keep(self.file(name), {"answer": answer, "observation": observation})
        return report, True

    def prepare(self) -> None:
        """Run the prepare phase in every attempt: it finds what an earlier attempt prepared, or prepares it again."""
        self._run("prepare", self.file("prepare"))

    def _run(self, phase: str, answer: str, parent: Optional[ParentKey] = None) -> Dict[str, Any]:
        """Run the process of a phase and return its answer, which it writes into the file with this name."""
        job = {
            "kind": self.spec.kind,
            "phase": phase,
            "runtime": self.spec.runtime,
            "options": dict(self.spec.options),
            "protocol": self.spec.protocol.to_json(),
            "model": self.spec.model_name,
            "answer": answer,
            "environment": self.environment_id[:16],
        }
        return self.job_folder.run(phase, job, wall_limit_s(phase, self.spec.protocol), parent)


def _power(
    children: _Children, recorder: Optional[PowerRecorder], batch: int, fastest_ms: float
) -> Tuple[Optional[Power], Optional[str]]:
    """Run the power phase while the meter is read; without a meter the phase is skipped."""
    if children.spec.protocol.power_s == 0:
        return None, "the protocol has no power phase"
    if recorder is None:
        return None, "no power meter"
    folder, file = children.job_folder, children.file("power-read")
    with contextlib.suppress(KeyError, InvalidRequest):  # missing or damaged
        stored = folder.record(file)
        return (None if stored["power"] is None else Power.from_json(stored["power"])), stored["reason"]
    reason = recorder.unavailable_reason()
    if reason is not None:
        return None, reason
    # An answer without a power result would belong to an attempt that was interrupted between the two.
    alone = children._replace(job_folder=folder._replace(kept=None))
    impossible = functools.partial(children.bounds.of_power, batch=batch, fastest_ms=fastest_ms)
    recorder.start()
    try:
        report, reason = alone.optional_report(_Phase("power", PowerReport.from_json, impossible))
    finally:
        recorder.stop()
    power, reason = (None, reason) if report is None else recorder.power(report)
    folder.keep(file, {"power": None if power is None else power.to_json(), "reason": reason})
    return power, reason
