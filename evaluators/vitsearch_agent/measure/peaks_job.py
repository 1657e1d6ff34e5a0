"""Peaks jobs: one child after another, each for one precision and thread count."""

import contextlib
from typing import Any, Dict, List, Optional

from vitsearch_agent.base.interruptions import FROM_OUTSIDE
from vitsearch_agent.base.system import THIS_MACHINE, System
from vitsearch_agent.conditions.thermal import Thermometer
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child.peaks import COPY, COPY_BYTES, GEMM_SIZE, PRECISIONS, PeakReport
from vitsearch_agent.measure.child_process import ChildDied
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder, answer_file_name, parse_report
from vitsearch_agent.wire.job_spec import JobSpec
from vitsearch_agent.wire.results import Gemm, PeaksResult, Rate


def measure_peaks(
    spec: JobSpec, context: JobContext, job_folder: JobFolder, system: System = THIS_MACHINE
) -> PeaksResult:
    """Measure the peaks with one thread, and with `spec.protocol.threads` where those are more.

    A precision that the runtime does not support gets a reason and does not fail the job. Raises what
    `run_child` raises.
    """
    started = context.start()
    reports: List[PeakReport] = []
    gemm: List[Gemm] = []
    reasons: Dict[str, str] = {}
    for precision in PRECISIONS:
        for threads in sorted({1, spec.protocol.threads}):
            try:
                report = _peak(spec, precision, threads, context, job_folder)
            except MeasurementFailed as failure:
                if isinstance(failure, ChildDied) and failure.signal_name in FROM_OUTSIDE:
                    raise
                reasons[precision] = str(failure)
                break
            context.refuse_version(spec.runtime, report.runtime_version)
            reports.append(report)
            gemm.append(Gemm(precision, threads, GEMM_SIZE, _scaled(report.rate, 1e9, context.slowdown)))
    copied = _peak(spec, COPY, 1, context, job_folder)
    temperature_c, wait = _temperature_c(system, reasons), _wait_over_cpu([*reports, copied], reasons)
    first = reports[0] if reports else copied
    if first.runtime_version is None:
        reasons["runtime_version"] = "the runtime ran no matrix product"
    return PeaksResult(
        runtime=spec.runtime,
        runtime_version=first.runtime_version,
        options=first.options if reports else spec.options,
        gemm=tuple(gemm),
        copy_gb_per_s=_scaled(copied.rate, 1e9, context.slowdown),
        copy_bytes=COPY_BYTES,
        temperature_c=temperature_c,
        wait_over_cpu=wait,
        reasons=reasons,
        **started.fields(),
    )


def _peak(spec: JobSpec, what: str, threads: int, context: JobContext, job_folder: JobFolder) -> PeakReport:
    """Return the report of an earlier attempt in this environment, otherwise of a new child."""
    phase = f"{what}-{threads}"
    name = answer_file_name(context.environment_id, phase)
    job = {
        "kind": "copy" if what == COPY else "gemm",
        "precision": what,
        "model": f"gemm-{what}.onnx",
        "runtime": spec.runtime,
        "options": dict(spec.options),
        "protocol": spec.protocol._replace(threads=threads).to_json(),
        "answer": name,
    }
    with contextlib.suppress(MeasurementFailed):  # missing or damaged
        return parse_report(job_folder.record(name), PeakReport.from_json)
    answer = job_folder.run(phase, job, spec.protocol.timeout_s)
    report = parse_report(answer, PeakReport.from_json)
    job_folder.keep(name, answer)
    return report


def _scaled(rate: Rate, unit: float, slowdown: Optional[float]) -> Rate:
    """Return a rate in a larger unit, divided by the slowdown of an emulated device."""
    divisor = unit * (slowdown or 1.0)
    return Rate(rate.best / divisor, rate.median / divisor, rate.n)


def _temperature_c(system: System, reasons: Dict[str, str]) -> Optional[float]:
    """Return the temperature of the device after all the work."""
    thermometer = Thermometer(system)
    temperature = thermometer.read()
    if temperature is None:
        reasons["temperature_c"] = str(thermometer.reason)
        return None
    return temperature.celsius


def _wait_over_cpu(reports: List[PeakReport], reasons: Dict[str, str]) -> Optional[float]:
    missing: List[Any] = [report.reason for report in reports if report.cpu_s is None or report.wait_s is None]
    cpu_s = sum(report.cpu_s or 0.0 for report in reports)
    if missing or cpu_s <= 0:
        reasons["wait_over_cpu"] = str(missing[0] if missing else "the scheduler counted no processor time")
        return None
    return sum(report.wait_s or 0.0 for report in reports) / cpu_s
