"""Measurements as text: one in full, or several in a table.

Every figure of a measurement is shown with its value or, if it is None, with the reason. Names and reasons come from
models and programs, so every line is made printable here.
"""

import itertools
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli.terminal import message_of
from vitsearch_agent.errors import AgentError
from vitsearch_agent.wire.distribution import QUANTILE_MINIMUM_RUNS
from vitsearch_agent.wire.measurement import PAIRED, Measurement, Reading
from vitsearch_agent.wire.metrics import DEVICE_METRICS, PHASES, DeviceMetric, Figure

_FLAGS = {
    "contended": "other work disturbed the measurement more than the reference models can correct: measure again",
    "memory_bound": "its time depends on how much cache other processes leave for its weights; the reference models "
    "cannot correct for that",
    "within_process": "a single process: processes differ by more than its runs, so there is no 95 % interval",
    "cpu_fallback": "the NPU left operators to the CPU: the options of the result name them (--json)",
    "not_steady": "the times were not steady at the end of warm-up: measure again",
    "throttled": "the device throttled",
    "sustained_throttling": "the device throttled in every repeat",
    "warm_start": "the device did not cool down in time",
    "swapped": "memory was swapped during the measurement",
}
_EMULATED = "what computes is imitated here: the times are those of no real device"


class FileResult(NamedTuple):
    """The result of measuring a file; one of `measurement` and `error` is None."""

    model: str
    measurement: Optional[Measurement]
    error: Optional[AgentError]

    def to_json(self) -> Dict[str, Any]:
        return {
            "model": self.model,
            "measurement": None if self.measurement is None else self.measurement.to_json(),
            "error": None if self.error is None else self.error.to_json(),
        }


def summary(measurement: Measurement) -> str:
    """Return a line for each figure with its value or the reason why it is missing, then the flags."""
    shown, latency = _Shown(measurement), measurement.latency_ms
    lines = [
        f"{measurement.runtime} {measurement.runtime_version}, {_plan(measurement)}, {latency.n} runs",
        f"shapes          {_shapes(measurement) or shown.reason('shapes')}",
        *_metrics(measurement, shown),
        f"latency_ms_p90  {shown.value('latency_ms_p90', latency.p90)}",
        f"latency_ms_p99  {shown.value('latency_ms_p99', latency.p99)}",
        *_basis(measurement, shown),
        f"process_spread  {_spread(measurement, shown)}",
        f"counters        {_counters(measurement, shown)}",
        f"temperature_c   {_temperature(measurement, shown)}",
        f"swap_mb         {shown.value('swap_mb', measurement.swap_mb)}",
        *shown.other_reasons(),
    ]
    if measurement.emulated:
        lines.append(f"{'EMULATED':<15} {_EMULATED}")
    for flag in measurement.flags:
        lines.append(f"{flag.upper():<15} {_FLAGS.get(flag, 'see the README')}")
    return _text(lines)


def comparison(results: Sequence[FileResult]) -> str:
    """Return a table with a row for each file; times also as multiples of the first measured file.

    Below it are the shapes, the errors, the reasons for missing figures, and the flags.
    """
    measured = [result.measurement for result in results if result.measurement is not None]
    lines = []
    if measured:
        first = measured[0]
        plans = dict.fromkeys(_plan(measurement) for measurement in measured)
        lines += [f"{first.runtime} {first.runtime_version}, {' or '.join(plans)}", ""]
        if any(measurement.emulated for measurement in measured):
            lines += [f"EMULATED: {_EMULATED}", ""]
        columns = [column for column in _columns() if any(column.cell(measurement, first) for measurement in measured)]
        rows = [["model"] + [column.head for column in columns] + [""]]
        for result in results:
            if result.measurement is not None:
                cells = [column.cell(result.measurement, first) for column in columns]
                rows.append([printable(result.model)] + cells + [", ".join(result.measurement.flags)])
        lines += _aligned(rows)
        lines += _shape_lines(results)
    lines += [f"{result.model}: {message_of(result.error)}" for result in results if result.error is not None]
    missing = [line for measurement in measured for line in _missing(measurement)]
    if missing:
        lines += ["", *dict.fromkeys(missing)]
    flags = sorted({flag for measurement in measured for flag in measurement.flags})
    if flags:
        lines += [""] + [f"{flag}: {_FLAGS.get(flag, 'see the README')}" for flag in flags]
    return _text(lines)


def _text(lines: Sequence[str]) -> str:
    return "\n".join(map(printable, lines))


class _Shown:
    """The figures shown so far; `other_reasons` are those that no line has shown yet."""

    def __init__(self, measurement: Measurement) -> None:
        self._reasons = dict(measurement.reasons)

    def value(self, name: str, value: Optional[float]) -> str:
        """Return the value of a figure, or the reason why it is missing."""
        return f"{value:.3f}" if value is not None else self.missing(name)

    def missing(self, name: str) -> str:
        """Return the reason why a figure is missing."""
        return f"not measured: {self.reason(name)}"

    def reason(self, name: str) -> str:
        return self._reasons.pop(name, "no reason given")

    def taken(self, metric: DeviceMetric, reason: str) -> str:
        """Return the reason why a metric is missing, which no other line has to show any more."""
        for name in metric.reasons:
            if self._reasons.get(name) == reason:
                del self._reasons[name]
        return reason

    def note(self, name: str) -> Optional[str]:
        """Return the note on a figure that has a value, None without one."""
        return self._reasons.pop(name, None)

    def other_reasons(self) -> List[str]:
        """Return a line for each reason that no line has shown: notes, and quantiles other than the latency's."""
        lines = []
        for name, reason in sorted(self._reasons.items()):
            is_missing = name.rpartition("_")[2] in QUANTILE_MINIMUM_RUNS
            lines.append(f"{name:<15} {'not measured: ' if is_missing else ''}{reason}")
        return lines


def _metrics(measurement: Measurement, shown: _Shown) -> Iterator[str]:
    """Yield a line for each metric with its value or the reason why it is missing; where those of a phase are missing
    together, one for the phase. Notes on values follow them."""
    metrics = [metric for metric in DEVICE_METRICS.values() if not metric.is_raw]
    for name, group in itertools.groupby(metrics, key=lambda metric: metric.reasons[-1]):
        figures = [(metric, metric.figure(measurement)) for metric in group]
        if all(figure is None for _, figure in figures):
            label = name if name in PHASES else _label(figures[0][0])
            first, *others = (shown.missing(name) + _beside(figures[0][0], measurement, shown)).split("; ")
            yield f"{label:<15} {first}"
            yield from (f"{'':<15} {reason}" for reason in others)
            continue
        for metric, figure in figures:
            text = _value(metric, figure, measurement, shown)
            yield f"{_label(metric):<15} {text}{_beside(metric, measurement, shown)}"
        note = shown.note(name)
        if note is not None:
            yield f"{'':<15} {note}"


def _label(metric: DeviceMetric) -> str:
    """The name of a metric, without what all latencies begin with where it is too long for its column."""
    return metric.name if len(metric.name) < 15 else metric.name.replace("latency_ms_", "")


def _value(metric: DeviceMetric, figure: Optional[Figure], measurement: Measurement, shown: _Shown) -> str:
    if figure is None:
        reason = metric.reason(measurement)
        return f"not measured: {'no reason given' if reason is None else shown.taken(metric, reason)}"
    if not metric.has_interval:
        return f"{figure.value:.3f}"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}  (no 95 % interval)"
    return f"{figure.value:.3f}  (95 %: {figure.low:.3f} to {figure.high:.3f})"


def _beside(metric: DeviceMetric, measurement: Measurement, shown: _Shown) -> str:
    """What stands behind the value of a metric; empty for most."""
    text = _BESIDE[metric.name](measurement, shown) if metric.name in _BESIDE else ""
    return f"  ({text})" if text else ""


def _basis(measurement: Measurement, shown: "_Shown") -> List[str]:
    """Return what the two medians are: as they were read, or those of a quiet machine by the reference models."""
    paired = measurement.paired
    if paired is None:
        return [f"basis           as read; no reference models: {shown.note('paired') or 'no reason given'}"]
    ratio, times = paired.cpu, paired.times
    processes = f"{times.processes} processes{', provisional' if times.provisional else ''}"
    if measurement.basis != PAIRED:
        return [f"basis           as read; {ratio.value:.3f} times the reference models ({processes})"]
    raw = f"latency {measurement.latency_ms.p50:.3f}"
    if measurement.cpu_ms is not None:
        raw += f", CPU {measurement.cpu_ms.p50:.3f}"
    return [
        f"basis           a quiet machine: {ratio.value:.3f} times the reference models ({processes})",
        f"as read         {raw}",
    ]


def _counters(measurement: Measurement, shown: "_Shown") -> str:
    counters = measurement.counters
    if counters is None:
        return shown.missing("counters")
    return f"{counters.instructions_m:.3f} M instructions, {counters.cycles_m:.3f} M cycles for each run"


def _spread(measurement: Measurement, shown: "_Shown") -> str:
    spread = measurement.between_process_rel_spread
    if spread is None:
        return shown.missing("between_process_rel_spread")
    return f"{spread:.1%}  (between the medians of {measurement.processes} processes, as read)"


def _temperature(measurement: Measurement, shown: _Shown) -> str:
    temperature = measurement.temperature
    if temperature is None:
        return shown.missing("temperature")
    return (
        f"{temperature.start_c:.1f} to {temperature.end_c:.1f}, at most {temperature.max_c:.1f}  ({temperature.zone})"
    )


def _streams(measurement: Measurement, shown: _Shown) -> str:
    protocol = measurement.protocol
    return f"{protocol.streams} at a time" if protocol.throughput_s > 0 else "one after the other"


def _soak(measurement: Measurement, shown: _Shown) -> str:
    return "" if measurement.sustained is None else f"after {measurement.protocol.soak_s:g} s of load"


def _in_flight(measurement: Measurement, shown: _Shown) -> str:
    streams = measurement.protocol.streams
    return "" if measurement.concurrent is None else f"of a run while {streams} are in flight"


def _baseline(measurement: Measurement, shown: _Shown) -> str:
    return f"runtime alone: {shown.value('runtime_baseline_mb', measurement.runtime_baseline_mb)}"


def _first_inference(measurement: Measurement, shown: _Shown) -> str:
    return f"first inference: {shown.value('first_inference_ms', measurement.first_inference_ms)}"


def _net(measurement: Measurement, shown: _Shown) -> str:
    power = measurement.power
    if power is None:
        return ""
    net = "not measured" if power.energy_net_mj is None else f"{power.energy_net_mj:.3f}"
    error = "unknown" if power.relative_error is None else f"about {power.relative_error:.0%}"
    return f"without idle: {net}, error {error}"


def _meter(measurement: Measurement, shown: _Shown) -> str:
    power = measurement.power
    if power is None:
        return ""
    idle = "not measured" if power.idle_w is None else f"{power.idle_w:.3f}"
    estimated = ", estimated" if power.estimated else ""
    return f"idle: {idle}; {power.source}, {power.scope}{estimated}, {power.rate_hz:.1f} Hz"


_BESIDE: Dict[str, Callable[[Measurement, _Shown], str]] = {
    "latency_ms_sustained_p50": _soak,
    "latency_ms_concurrent_p50": _in_flight,
    "throughput_ips": _streams,
    "energy_mj": _net,
    "power_w": _meter,
    "peak_memory_mb": _baseline,
    "load_ms": _first_inference,
}
"""What a person wants to know beside a metric."""


def _missing(measurement: Measurement) -> List[str]:
    """Return the reasons for the figures of the table that this measurement lacks."""
    lines = []
    for metric in DEVICE_METRICS.values():
        is_expected = metric.heading and metric.is_common and metric.was_asked_for(measurement)
        if is_expected and metric.figure(measurement) is None:
            name = metric.name if isinstance(metric.read(measurement), Reading) else metric.reasons[-1]
            lines.append(f"{name}: not measured: {metric.reason(measurement) or 'no reason given'}")
    return list(dict.fromkeys(lines))


class _Column(NamedTuple):
    head: str
    value: Callable[[Measurement], Optional[float]]
    form: str
    relative: bool = False

    def cell(self, measurement: Measurement, first: Measurement) -> str:
        """Return the text of a cell; empty for a missing figure."""
        value, reference = self.value(measurement), self.value(first)
        if value is None or (self.relative and not reference):
            return ""
        return self.form.format(value / reference if self.relative and reference else value)


def _columns() -> Iterator[_Column]:
    """Yield the columns of each metric that has one: its value and, of a median with its interval, that of the latency
    and the multiple of the first file's value."""

    def end(metric: DeviceMetric, place: str) -> Callable[[Measurement], Optional[float]]:
        def read(measurement: Measurement) -> Optional[float]:
            figure = metric.figure(measurement)
            return None if figure is None else getattr(figure, place)

        return read

    for metric in DEVICE_METRICS.values():
        if not metric.heading:
            continue
        yield _Column(metric.heading, end(metric, "value"), metric.form)
        if metric.name == "latency_ms_p50":
            yield _Column("95 % from", end(metric, "low"), metric.form)
            yield _Column("to", end(metric, "high"), metric.form)
        if metric.has_interval:
            yield _Column("", end(metric, "value"), "{:.2f} x", relative=True)


def _aligned(rows: List[List[str]]) -> List[str]:
    """Align the columns: the first and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])]
        lines.append("  ".join([row[0].ljust(widths[0])] + numbers + row[-1:]).rstrip())
    return lines


def _plan(measurement: Measurement) -> str:
    protocol = measurement.protocol
    plan = [protocol.id, f"{protocol.threads} thread{'s' if protocol.threads > 1 else ''}"]
    return ", ".join(plan + ([f"batch {measurement.batch}"] if measurement.batch > 1 else []))


def _shapes(measurement: Measurement) -> str:
    """Return the shapes of the inputs as `--shape` takes them; empty if there are none."""
    return "  ".join(f"{name}={','.join(map(str, sizes))}" for name, sizes in (measurement.shapes or {}).items())


def _shape_lines(results: Sequence[FileResult]) -> List[str]:
    """Return the shapes of all files in one line, or a line for each file if they differ."""
    shapes = [(result.model, _shapes(result.measurement)) for result in results if result.measurement is not None]
    distinct = dict.fromkeys(text for _, text in shapes if text)
    if len(distinct) < 2:
        return [f"shapes: {text}" for text in distinct]
    return ["", "these figures are of different shapes:"] + [f"{model}: {text or 'unknown'}" for model, text in shapes]
