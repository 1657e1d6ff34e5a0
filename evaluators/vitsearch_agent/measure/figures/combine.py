"""Combine the reports of the measuring processes into the fields of a Measurement.

ProcessReports --> quantiles, interval of the median, contention, flags, and a reason for every figure that is None
"""

import math
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from vitsearch_agent.measure.child.phase_reports import ProcessReport, ThroughputReport
from vitsearch_agent.runtimes.ort_qnn import CPU_NODES
from vitsearch_agent.wire.distribution import QUANTILE_MINIMUM_RUNS, median, summarize
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS, MeasureProtocol
from vitsearch_agent.wire.measurement import Contention, Latency
from vitsearch_agent.wire.processor_counters import Counters

CONTENDED_WAIT_OVER_CPU = 0.05

CONTENDED_WALL_OVER_CPU = 1.1
"""The ratio of wall to CPU time above which a thread that never slept was preempted, perhaps by a hypervisor."""

_NOT_REPORTED = "the runtime does not report it"


def combine(
    reports: Sequence[ProcessReport], protocol: MeasureProtocol, sustained: Optional[ProcessReport] = None
) -> Dict[str, Any]:
    """Return the fields of a Measurement that follow from the samples of all its processes.

    `sustained` is the process after a soak: its distribution is reported separately, but other load during
    it flags the measurement too. Every figure that is None has its reason in `reasons`. Raises ValueError for
    too few samples.
    """
    groups = [list(reports)] + ([] if sustained is None else [[sustained]])
    conditions = {
        "not_steady": not all(report.steady for group in groups for report in group),
        "within_process": len(reports) == 1,
        "cpu_fallback": bool(reports[0].options.get(CPU_NODES)),
    }
    largest = max(reports, key=lambda report: report.peak_memory_mb or 0.0)
    gpu_memories_mb = [report.gpu_memory_mb for report in reports if report.gpu_memory_mb is not None]
    latency = summarize([report.wall_ms for report in reports])
    figures = {
        "latency_ms": latency,
        "cpu_ms": summarize([report.cpu_ms for report in reports]) if reports[0].cpu_ms else None,
        "load_ms": _measured_median([report.load_ms for report in reports]),
        "first_inference_ms": _measured_median([report.first_inference_ms for report in reports]),
        "throughput_ips": 1e3 * reports[0].batch / latency.mean if latency.mean > 0 else None,
        "peak_memory_mb": largest.peak_memory_mb,
        "runtime_baseline_mb": largest.runtime_baseline_mb,
        "gpu_memory_mb": max(gpu_memories_mb, default=None),
        "between_process_rel_spread": _relative_spread([report.wall_ms for report in reports]),
        "counters": _mean_counters(reports),
        "sustained": None if sustained is None else summarize([sustained.wall_ms]),
        "contention": _contention(reports),
        "shapes": reports[0].shapes,
    }
    return dict(
        figures,
        flags=tuple(flag for flag, is_set in conditions.items() if is_set),
        reasons=_reasons(figures, reports, sustained),
        runtime_version=reports[0].runtime_version,
        options=dict(reports[0].options),
        batch=reports[0].batch,
    )


def of_streams(report: ThroughputReport) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Return the fields of a Measurement that a throughput phase gives, and the reasons for what is missing in them.

    All runs are those of one process, so the median has no interval.
    """
    fields: Dict[str, Any] = {"throughput_ips": report.images_per_s, "concurrent": None}
    if not report.wall_ms:
        return fields, {"concurrent": _NOT_REPORTED}
    if len(report.wall_ms) < MINIMUM_RUNS:
        return fields, {"concurrent": f"{MINIMUM_RUNS} runs are needed, {len(report.wall_ms)} were timed"}
    fields["concurrent"] = summarize([report.wall_ms])
    return fields, _quantile_reasons("concurrent", fields["concurrent"])


def _reasons(
    figures: Mapping[str, Any], reports: Sequence[ProcessReport], sustained: Optional[ProcessReport]
) -> Dict[str, str]:
    """Return a reason for each figure that is None, and the notes of the processes on their latency."""
    defaults = {
        "sustained": "the protocol has no soak",
        "counters": "the runtime is a program of its own",
        "between_process_rel_spread": "one process" if len(reports) < 2 else "the median latency is 0",
        "throughput_ips": "the mean latency is 0",
    }
    reasons: Dict[str, str] = {}
    for report in reports:
        reasons.update(report.reasons)
    if sustained is not None and "latency_ms" in sustained.reasons:
        reasons["sustained"] = sustained.reasons["latency_ms"]
    for name, value in figures.items():
        if value is None:
            reasons.setdefault(name, defaults.get(name, _NOT_REPORTED))
        elif isinstance(value, Latency):
            reasons.update(_quantile_reasons(name, value))
        elif isinstance(value, (int, float)):
            reasons.pop(name, None)  # one process gave a reason, but another one has the figure
    if figures["shapes"] == {}:
        reasons["shapes"] = "the model has no inputs"
    contention = figures["contention"]
    if contention.wait_over_cpu is None or contention.wall_over_cpu is None:
        reasons.setdefault("contention", "no processor time was counted")
    return reasons


def _quantile_reasons(name: str, latency: Latency) -> Dict[str, str]:
    """Return a reason for each quantile that is None, under keys such as `latency_ms_p99`."""
    return {
        f"{name}_{key}": f"{needed} runs are needed, {latency.n} were timed"
        for key, needed in QUANTILE_MINIMUM_RUNS.items()
        if getattr(latency, key) is None
    }


def is_contended(reports: Sequence[ProcessReport], threads: int) -> bool:
    """Return whether other load used the processor, by the signs that need no reference model.

    They are waiting for a processor or, for a single thread that never slept, wall time beyond CPU time.
    """
    contention = _contention(reports)
    waited = contention.wait_over_cpu is not None and contention.wait_over_cpu > CONTENDED_WAIT_OVER_CPU
    preempted = contention.wall_over_cpu is not None and contention.wall_over_cpu > CONTENDED_WALL_OVER_CPU
    return waited or (never_slept(reports, threads) and preempted)


def never_slept(reports: Sequence[ProcessReport], threads: int) -> bool:
    """Return whether a single thread computed without waiting: its latency on a quiet machine is its CPU time."""
    return threads == 1 and all(
        report.sleeps is not None and report.sleeps < len(report.wall_ms) / 10 for report in reports
    )


def _mean_counters(reports: Sequence[ProcessReport]) -> Optional[Counters]:
    counted = [report.counters for report in reports if report.counters is not None]
    if not counted:
        return None
    return Counters(*(math.fsum(values) / len(counted) for values in zip(*counted)))


def _contention(reports: Sequence[ProcessReport]) -> Contention:
    on_cpu = [report.scheduler_cpu_s for report in reports]
    waits = [report.scheduler_wait_s for report in reports]
    wait_over_cpu = None
    if None not in on_cpu and None not in waits:
        on_cpu_s = sum(value for value in on_cpu if value is not None)
        wait_s = sum(value for value in waits if value is not None)
        wait_over_cpu = wait_s / on_cpu_s if on_cpu_s > 0 else None
    cpu_ms = math.fsum(value for report in reports for value in report.cpu_ms)
    wall_ms = math.fsum(value for report in reports for value in report.wall_ms)
    return Contention(wait_over_cpu, wall_ms / cpu_ms if cpu_ms > 0 else None)


def _relative_spread(series: Sequence[Sequence[float]]) -> Optional[float]:
    if len(series) < 2:
        return None
    medians = [median(values) for values in series]
    middle = median(medians)
    return (max(medians) - min(medians)) / middle if middle > 0 else None


def _measured_median(values: Sequence[Optional[float]]) -> Optional[float]:
    measured = [value for value in values if value is not None]
    return median(measured) if measured else None
