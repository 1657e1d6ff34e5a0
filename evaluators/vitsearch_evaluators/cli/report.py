"""What a person is told of measurements: one with all that it says, several in a table."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.wire.distribution import QUANTILE_MINIMUM_RUNS
from vitsearch_evaluators.wire.measurement import Latency, Measurement

_FLAGS = {
    "contended": "other work had the processor too: compare CPU times, or measure again",
    "not_steady": "times had not settled when warm-up had to end: measure again",
    "throttled": "the device slowed itself down",
    "sustained_throttling": "the device slowed itself down, each time that it was tried",
    "warm_start": "the device did not cool down in time",
    "swapped": "memory was moved to swap meanwhile",
}


class FileResult(NamedTuple):
    """What came of measuring a file: one of the two is None."""

    model: str
    measurement: Optional[Measurement]
    error: Optional[EvaluatorError]

    def to_json(self) -> Dict[str, Any]:
        return {
            "model": self.model,
            "measurement": None if self.measurement is None else self.measurement.to_json(),
            "error": None if self.error is None else self.error.to_json(),
        }


def summary(measurement: Measurement) -> str:
    """Return a line for each thing that was measured, and what is to be thought of it."""
    latency, protocol, reasons = measurement.latency_ms, measurement.protocol, measurement.reasons
    between = measurement.between_process_rel_spread
    cpu, memory, load = _cpu_ms(measurement), measurement.peak_memory_mb, measurement.load_ms
    throughput = _shown(measurement.throughput_ips, reasons.get("throughput_ips"))
    lines = [
        f"{measurement.runtime} {measurement.runtime_version}, {_plan(measurement)}, {latency.n} runs",
        f"latency_ms_p50  {latency.p50:.3f}  (95 %: {latency.ci95_low:.3f} to {latency.ci95_high:.3f})",
        f"latency_ms_p90  {_quantile(latency, 'p90')}",
        f"latency_ms_p95  {_quantile(latency, 'p95')}",
        f"latency_ms_p99  {_quantile(latency, 'p99')}",
        f"cpu_ms_p50      {_shown(cpu, reasons.get('cpu_ms'))}",
        f"throughput_ips  {throughput}{_throughput(measurement)}",
        f"peak_memory_mb  {_shown(memory, reasons.get('peak_memory_mb'))}",
        f"load_ms         {_shown(load, reasons.get('load_ms'))}"
        f"  (first inference: {_shown(measurement.first_inference_ms)})",
    ]
    if between is not None:
        lines.append(f"processes       {protocol.processes}, whose medians are {between:.1%} apart")
    if protocol.soak_s > 0:
        soaked = None if measurement.sustained is None else measurement.sustained.p50
        lines.append(
            f"sustained_p50   {_shown(soaked, reasons.get('sustained'))}  (after {protocol.soak_s:g} s of load)"
        )
    if protocol.power_s > 0:
        lines += _power_lines(measurement)
    heat = measurement.temperature
    if heat is not None:
        lines.append(f"temperature_c   {heat.start_c:.1f} to {heat.end_c:.1f}, at most {heat.max_c:.1f}  ({heat.zone})")
    if "throttling" in reasons:
        lines.append(f"throttling      {reasons['throttling']}")
    for flag in measurement.flags:
        lines.append(f"{flag.upper():<15} {_FLAGS.get(flag, 'see the README')}")
    return "\n".join(lines)


def comparison(outcomes: Sequence[FileResult]) -> str:
    """Return a table with a row for each file; times as multiples of the first that could be measured."""
    measured = [outcome.measurement for outcome in outcomes if outcome.measurement is not None]
    lines = []
    if measured:
        first = measured[0]
        lines += [f"{first.runtime} {first.runtime_version}, {_plan(first)}", ""]
        columns = [column for column in _COLUMNS if any(column.cell(one, first) for one in measured)]
        rows = [["model"] + [column.head for column in columns] + [""]]
        for outcome in outcomes:
            if outcome.measurement is not None:
                cells = [column.cell(outcome.measurement, first) for column in columns]
                rows.append([outcome.model] + cells + [", ".join(outcome.measurement.flags)])
        lines += _aligned(rows)
    lines += [f"{outcome.model}: {failed(outcome.error)}" for outcome in outcomes if outcome.error is not None]
    missing = [line for one in measured for line in _not_measured(one)]
    if missing:
        lines += ["", *dict.fromkeys(missing)]
    flags = sorted({flag for one in measured for flag in one.flags})
    if flags:
        lines += [""] + [f"{flag}: {_FLAGS.get(flag, 'see the README')}" for flag in flags]
    return "\n".join(lines)


def _not_measured(measurement: Measurement) -> List[str]:
    """Why there is nothing of what was asked for beside the latency."""
    protocol = measurement.protocol
    asked = (
        ("power", protocol.power_s, measurement.power),
        ("sustained", protocol.soak_s, measurement.sustained),
        ("throughput_ips", protocol.throughput_s, measurement.throughput_ips),
    )
    return [
        f"{name}: {_shown(None, measurement.reasons.get(name))}"
        for name, seconds, found in asked
        if seconds > 0 and found is None
    ]


def failed(error: EvaluatorError) -> str:
    """Return what went wrong, with its kind where it has one."""
    kind = error.details.get("kind")
    return str(error) if kind is None else f"{kind}: {error}"


class _Column(NamedTuple):
    head: str
    value: Callable[[Measurement], Optional[float]]
    form: str = "{:.3f}"
    relative: bool = False

    def cell(self, measurement: Measurement, first: Measurement) -> str:
        """Return what stands there; nothing for what was not measured."""
        value, once = self.value(measurement), self.value(first)
        if value is None or (self.relative and not once):
            return ""
        return self.form.format(value / once if self.relative and once else value)


def _cpu_ms(measurement: Measurement) -> Optional[float]:
    return None if measurement.cpu_ms is None else measurement.cpu_ms.p50


_COLUMNS = (
    _Column("p50 ms", lambda one: one.latency_ms.p50),
    _Column("95 % from", lambda one: one.latency_ms.ci95_low),
    _Column("to", lambda one: one.latency_ms.ci95_high),
    _Column("", lambda one: one.latency_ms.p50, "{:.2f} x", relative=True),
    _Column("CPU ms", _cpu_ms),
    _Column("", _cpu_ms, "{:.2f} x", relative=True),
    _Column("sustained", lambda one: None if one.sustained is None else one.sustained.p50),
    _Column("images/s", lambda one: one.throughput_ips, "{:.1f}"),
    _Column("mJ", lambda one: None if one.power is None else one.power.energy_mj, "{:.2f}"),
    _Column("W", lambda one: None if one.power is None else one.power.mean_w, "{:.2f}"),
    _Column("memory MB", lambda one: one.peak_memory_mb, "{:.1f}"),
)


def _aligned(rows: List[List[str]]) -> List[str]:
    """The first column and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])]
        lines.append("  ".join([row[0].ljust(widths[0])] + numbers + row[-1:]).rstrip())
    return lines


def _plan(measurement: Measurement) -> str:
    protocol = measurement.protocol
    plan = [protocol.id, f"{protocol.threads} thread{'s' if protocol.threads > 1 else ''}"]
    return ", ".join(plan + ([f"batch {protocol.batch}"] if protocol.batch > 1 else []))


def _throughput(measurement: Measurement) -> str:
    protocol = measurement.protocol
    if protocol.throughput_s > 0:
        return f"  ({protocol.streams} at a time)"
    return "  (one after the other)"


def _power_lines(measurement: Measurement) -> List[str]:
    found = measurement.power
    if found is None:
        first, *others = measurement.reasons["power"].split("; ")
        return [f"power           not measured: {first}"] + [f"                {why}" for why in others]
    error = "" if found.relative_error is None else f", error about {found.relative_error:.0%}"
    lines = [
        f"energy_mj       {found.energy_mj:.3f}  (without idle: {_shown(found.energy_net_mj)}{error})",
        f"mean_w          {found.mean_w:.3f}  (idle: {_shown(found.idle_w)}; {found.source}, {found.scope}"
        f"{', estimated' if found.estimated else ''}, {found.rate_hz:.1f} Hz)",
    ]
    note = measurement.reasons.get("power")
    return lines if note is None else [*lines, f"                {note}"]


def _quantile(latency: Latency, name: str) -> str:
    return _shown(getattr(latency, name), f"{QUANTILE_MINIMUM_RUNS[name]} runs are needed")


def _shown(value: Optional[float], reason: Optional[str] = None) -> str:
    if value is not None:
        return f"{value:.3f}"
    return "not measured" if reason is None else f"not measured: {reason}"
