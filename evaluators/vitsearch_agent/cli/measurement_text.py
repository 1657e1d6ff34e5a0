"""Measurements as text: one in full, or several in a table.

Every figure of a measurement is shown with its value or, if it is None, with the reason. Names and reasons come from
models and programs, so every line is made printable here.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli.terminal import message_of
from vitsearch_agent.errors import AgentError
from vitsearch_agent.wire.distribution import QUANTILE_MINIMUM_RUNS
from vitsearch_agent.wire.measurement import PAIRED, Measurement
from vitsearch_agent.wire.paired import Milliseconds

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
    latency, protocol = measurement.latency_ms, measurement.protocol
    cpu = measurement.shown_cpu_ms
    shown = _Shown(measurement)
    streams = f"{protocol.streams} at a time" if protocol.throughput_s > 0 else "one after the other"
    first_inference = shown.value("first_inference_ms", measurement.first_inference_ms)
    baseline = shown.value("runtime_baseline_mb", measurement.runtime_baseline_mb)
    lines = [
        f"{measurement.runtime} {measurement.runtime_version}, {_plan(measurement)}, {latency.n} runs",
        f"shapes          {_shapes(measurement) or shown.reason('shapes')}",
        f"latency_ms_p50  {_with_interval(measurement.shown_latency_ms)}",
        f"latency_ms_p90  {shown.value('latency_ms_p90', latency.p90)}",
        f"latency_ms_p95  {shown.value('latency_ms_p95', latency.p95)}",
        f"latency_ms_p99  {shown.value('latency_ms_p99', latency.p99)}",
        f"cpu_ms_p50      {shown.missing('cpu_ms') if cpu is None else _with_interval(cpu)}",
        *_basis(measurement, shown),
        f"throughput_ips  {shown.value('throughput_ips', measurement.throughput_ips)}  ({streams})",
        f"concurrent_p50  {_concurrent(measurement, shown)}",
        f"peak_memory_mb  {shown.value('peak_memory_mb', measurement.peak_memory_mb)}  (runtime alone: {baseline})",
        f"gpu_memory_mb   {shown.value('gpu_memory_mb', measurement.gpu_memory_mb)}",
        f"load_ms         {shown.value('load_ms', measurement.load_ms)}  (first inference: {first_inference})",
        f"process_spread  {_spread(measurement, shown)}",
        f"counters        {_counters(measurement, shown)}",
        f"sustained_p50   {_sustained(measurement, shown)}",
        *_power(measurement, shown),
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
        columns = [column for column in _COLUMNS if any(column.cell(measurement, first) for measurement in measured)]
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


def _with_interval(times: Milliseconds) -> str:
    if times.low is None or times.high is None:
        return f"{times.p50:.3f}  (no 95 % interval)"
    return f"{times.p50:.3f}  (95 %: {times.low:.3f} to {times.high:.3f})"


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


def _sustained(measurement: Measurement, shown: _Shown) -> str:
    if measurement.sustained is None:
        return shown.missing("sustained")
    return f"{measurement.sustained.p50:.3f}  (after {measurement.protocol.soak_s:g} s of load)"


def _concurrent(measurement: Measurement, shown: _Shown) -> str:
    latency = measurement.concurrent
    if latency is None:
        return shown.missing("concurrent")
    tail = "p95 not known" if latency.p95 is None else f"p95 {latency.p95:.3f}"
    return f"{latency.p50:.3f}  ({tail}; of a run while {measurement.protocol.streams} are in flight)"


def _temperature(measurement: Measurement, shown: _Shown) -> str:
    temperature = measurement.temperature
    if temperature is None:
        return shown.missing("temperature")
    return (
        f"{temperature.start_c:.1f} to {temperature.end_c:.1f}, at most {temperature.max_c:.1f}  ({temperature.zone})"
    )


def _power(measurement: Measurement, shown: _Shown) -> List[str]:
    power = measurement.power
    if power is None:
        first, *others = shown.missing("power").split("; ")
        return [f"power           {first}"] + [f"                {reason}" for reason in others]
    note = shown.note("power")
    net = "not measured" if power.energy_net_mj is None else f"{power.energy_net_mj:.3f}"
    idle = "not measured" if power.idle_w is None else f"{power.idle_w:.3f}"
    error = "unknown" if power.relative_error is None else f"about {power.relative_error:.0%}"
    lines = [
        f"energy_mj       {power.energy_mj:.3f}  (without idle: {net}, error {error})",
        f"mean_w          {power.mean_w:.3f}  (idle: {idle}; {power.source}, {power.scope}"
        f"{', estimated' if power.estimated else ''}, {power.rate_hz:.1f} Hz)",
    ]
    return lines if note is None else [*lines, f"                {note}"]


def _missing(measurement: Measurement) -> List[str]:
    """Return the reasons for the figures of the table that this measurement lacks."""
    protocol = measurement.protocol
    figures: Dict[str, Any] = {
        "cpu_ms": measurement.cpu_ms,
        "throughput_ips": measurement.throughput_ips,
        "peak_memory_mb": measurement.peak_memory_mb,
    }
    if protocol.soak_s > 0:
        figures["sustained"] = measurement.sustained
    if protocol.throughput_s > 0:
        figures["concurrent"] = measurement.concurrent
    if protocol.power_s > 0:
        figures["power"] = measurement.power
    shown = _Shown(measurement)
    return [f"{name}: {shown.missing(name)}" for name, value in figures.items() if value is None]


class _Column(NamedTuple):
    head: str
    value: Callable[[Measurement], Optional[float]]
    form: str = "{:.3f}"
    relative: bool = False

    def cell(self, measurement: Measurement, first: Measurement) -> str:
        """Return the text of a cell; empty for a missing figure."""
        value, reference = self.value(measurement), self.value(first)
        if value is None or (self.relative and not reference):
            return ""
        return self.form.format(value / reference if self.relative and reference else value)


def _cpu_ms(measurement: Measurement) -> Optional[float]:
    cpu_ms = measurement.shown_cpu_ms
    return None if cpu_ms is None else cpu_ms.p50


_COLUMNS = (
    _Column("p50 ms", lambda measurement: measurement.shown_latency_ms.p50),
    _Column("95 % from", lambda measurement: measurement.shown_latency_ms.low),
    _Column("to", lambda measurement: measurement.shown_latency_ms.high),
    _Column("", lambda measurement: measurement.shown_latency_ms.p50, "{:.2f} x", relative=True),
    _Column("CPU ms", _cpu_ms),
    _Column("", _cpu_ms, "{:.2f} x", relative=True),
    _Column("sustained", lambda measurement: None if measurement.sustained is None else measurement.sustained.p50),
    _Column("concurrent", lambda measurement: None if measurement.concurrent is None else measurement.concurrent.p50),
    _Column("images/s", lambda measurement: measurement.throughput_ips, "{:.1f}"),
    _Column("mJ", lambda measurement: None if measurement.power is None else measurement.power.energy_mj, "{:.2f}"),
    _Column("W", lambda measurement: None if measurement.power is None else measurement.power.mean_w, "{:.2f}"),
    _Column("memory MB", lambda measurement: measurement.peak_memory_mb, "{:.1f}"),
    _Column("GPU MB", lambda measurement: measurement.gpu_memory_mb, "{:.1f}"),
)


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
