"""Measure one file without an agent: `vitsearch-agent measure`, and what it tells the person who waits."""

import json
import os
import sys
import tempfile
from typing import Any, List, Optional, Sequence, Tuple

from vitsearch_evaluators import __version__, artifacts, procs, runtimes
from vitsearch_evaluators.bench import Bench
from vitsearch_evaluators.canonical import file_digest
from vitsearch_evaluators.child import StopSignal
from vitsearch_evaluators.config import RUNTIME_DEFAULT, PowerConfig, RuntimeConfig
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.execute import Conditions, execute, probe_runtime
from vitsearch_evaluators.fingerprint import environment_id, fingerprint
from vitsearch_evaluators.jobspec import MeasureProtocol
from vitsearch_evaluators.launch import Launch
from vitsearch_evaluators.power.phase import MeteredPhase
from vitsearch_evaluators.protocol import BlobRef, JobSpec, Measurement, job_id
from vitsearch_evaluators.system import THIS_MACHINE

_LOCAL_DEVICE = "local"


def measure_file(
    path: str,
    runtime: str,
    options: Sequence[str],
    plan: MeasureProtocol,
    meter: PowerConfig,
    programs: RuntimeConfig = RUNTIME_DEFAULT,
) -> Measurement:
    """Measure a file in a fresh child, as the agent does, but with no server and no queue."""
    for at in artifacts.model_files(path).values():
        if not os.path.isfile(at):
            raise InvalidRequest(f"{at} is no file")
    asked = dict(_option(text) for text in options)
    runtimes.create(runtime).check_options(asked)
    files = artifacts.model_files(path)
    blobs = tuple(BlobRef(name, file_digest(at), os.path.getsize(at)) for name, at in files.items())
    spec = JobSpec("measure", blobs, runtime, asked, plan)
    stop = StopSignal()
    procs.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="vitsearch-") as folder:
        info = probe_runtime(runtime, Bench(folder, stop), programs)
        artifacts.refuse_unfit(spec.artifact_kind, files, info)
        environment = environment_id(fingerprint(__version__, (info,), THIS_MACHINE))
        identifier = job_id(spec, _LOCAL_DEVICE)
        conditions = Conditions(identifier, _LOCAL_DEVICE, environment, 1, 0.0)
        for name, at in files.items():
            os.symlink(os.path.abspath(at), os.path.join(folder, name))
        bench = Bench(folder, stop, _say_phase, Launch.of(info, os.path.join(folder, "cache")))
        return execute(spec, conditions, bench, MeteredPhase(meter, THIS_MACHINE), tell=say)


def _say_phase(phase: str, _process: procs.ProcessId) -> None:
    if phase != "latency":
        say(f"{phase} phase")


def say(what: str, **details: Any) -> None:
    """Tell the person who waits why it takes a while; the words are those of `events`."""
    told = ", ".join(f"{key} {value}" for key, value in details.items())
    print(f"vitsearch-agent: {what} ({told})" if told else f"vitsearch-agent: {what}", file=sys.stderr)


def summary(measurement: Measurement) -> str:
    """Return a few lines for a person."""
    latency, cpu = measurement.latency_ms, measurement.cpu_ms
    memory = measurement.peak_memory_mb
    lines = [
        f"{measurement.runtime} {measurement.runtime_version}, {measurement.protocol.id}, {latency.n} runs",
        f"latency_ms_p50  {latency.p50:.3f}  (95 %: {latency.ci95_low:.3f} to {latency.ci95_high:.3f})",
        f"latency_ms_p95  {_shown(latency.p95)}",
        f"cpu_ms_p50      {_shown(None if cpu is None else cpu.p50)}",
        f"throughput_ips  {_shown(measurement.throughput_ips, measurement.reasons.get('throughput_ips'))}",
        f"peak_memory_mb  {_shown(memory)}",
        f"load_ms         {_shown(measurement.load_ms)}",
    ]
    if measurement.protocol.soak_s > 0:
        sustained = None if measurement.sustained is None else measurement.sustained.p50
        shown = _shown(sustained, measurement.reasons.get("sustained"))
        lines.append(f"sustained_p50   {shown}  (after {measurement.protocol.soak_s:g} s of load)")
    if measurement.protocol.power_s > 0:
        lines += _power_lines(measurement)
    heat = measurement.temperature
    if heat is not None:
        lines.append(f"temperature_c   {heat.start_c:.1f} to {heat.end_c:.1f}, at most {heat.max_c:.1f}  ({heat.zone})")
    if "throttling" in measurement.reasons:
        lines.append(f"throttling      {measurement.reasons['throttling']}")
    if measurement.flags:
        lines.append(f"flags           {', '.join(measurement.flags)}")
    return "\n".join(lines)


def _power_lines(measurement: Measurement) -> List[str]:
    found = measurement.power
    if found is None:
        return [f"power           not measured: {measurement.reasons['power']}"]
    error = "" if found.relative_error is None else f", error about {found.relative_error:.0%}"
    lines = [
        f"energy_mj       {found.energy_mj:.3f}  (without idle: {_shown(found.energy_net_mj)}{error})",
        f"mean_w          {found.mean_w:.3f}  (idle: {_shown(found.idle_w)}; {found.source}, {found.scope}"
        f"{', estimated' if found.estimated else ''}, {found.rate_hz:.1f} Hz)",
    ]
    note = measurement.reasons.get("power")
    return lines if note is None else [*lines, f"                {note}"]


def _shown(value: Optional[float], reason: Optional[str] = None) -> str:
    if value is not None:
        return f"{value:.3f}"
    return "not measured" if reason is None else f"not measured: {reason}"


def _option(text: str) -> Tuple[str, object]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidRequest(f"--option: expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
