"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from vitsearch.cli.terminal import Terminal
from vitsearch.core.caveats.precision_shares import in_name_only, shown
from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import split
from vitsearch.core.plan import Plan, model_text, plan_text
from vitsearch.core.stage import Stage
from vitsearch.study.front import Front, Point
from vitsearch_evaluators.base.printable import printable
from vitsearch_evaluators.wire.measurement import PAIRED

BASELINE = "baseline"
EMULATED = "EMULATED: "
OF_THE_DEVICE = ("sustained_throttling", "throttled", "warm_start", "swapped", "unverified_device")
"""Flags of a device that was not in its normal state, so its times are not either."""
QUIET = (
    "This machine is shared, so p50 is what a quiet machine takes, by the reference models that ran beside each model; "
    "..._p50_raw in --json is what was read."
)
EXTRA = ("latency_ms_p50", "peak_memory_mb", "size_mb", "params_m", "macs_m")


def print_front(front: Front, console: Console | None = None) -> None:
    console = console or Terminal()
    if not front.points:
        console.print(
            f"Study {front.study} has no feasible trained model yet: see 'vitsearch status {front.study}'.",
            markup=False,
        )
        return
    console.print(front_table(front, console.width))
    console.print(
        "± is half of a 95 % interval, in brackets the share of the baseline; * marks the knee.", markup=False
    )
    if any(point.basis == PAIRED for point in front.shown()):
        console.print(QUIET, style="dim", markup=False)
    columns = [*front.objectives, *EXTRA]
    for note in missing_notes(columns, {point.name: point.metrics for point in front.shown()}):
        console.print(note, style="dim", markup=False)
    _print_value_notes({point.name: point.metrics for point in front.shown()}, console)
    for point in front.shown():
        if flags := ", ".join(flag for flag in point.flags if flag in OF_THE_DEVICE):
            console.print(f"{point.name} was measured on a device with flags: {flags}", style="yellow", markup=False)
    for point in front.shown():
        for warning in point.warnings:
            console.print(printable(f"{point.name}: {warning}"), style="yellow", markup=False)
    for point in front.shown():
        if disagreement := _disagreement(point):
            console.print(disagreement, style="yellow", markup=False)


def _disagreement(point: Point) -> str | None:
    """The accuracy on the device, when chance does not explain its difference to the worker's."""
    found, accuracy = point.on_device, point.metrics.value("accuracy")
    if found is None or accuracy is None or found.agrees(accuracy):
        return None
    low, high = found.interval
    there = f"{found.correct / found.n:.3f} of {found.n} images correctly ({low:.3f} to {high:.3f})"
    return f"{point.name} classifies {there} on the device itself, but {accuracy:.3f} on the worker"


def front_table(front: Front, width: int) -> Table:
    """As many of the further metrics as fit beside the objectives in ``width`` characters."""
    points = [*front.shown()]
    columns = [*front.objectives, *(name for name in EXTRA if name not in front.objectives)]
    several = len({model_text(point.plan) for point in points}) > 1
    rows = [
        [
            _name(point, front),
            _plan(point.plan, point.shares, several),
            *(_cell(point, metric, metric in front.objectives, front.baseline) for metric in columns),
        ]
        for point in points
    ]
    about = "" if several else f", all {model_text(points[0].plan)}"
    marked = EMULATED if front.emulated else ""
    title = f"{marked}Pareto front of study {front.study}: {counted(len(front.points), 'model')}{about}"
    return fitted(title, ["trial", "plan", *map(_heading, columns)], rows, 2 + len(front.objectives), width)


def fitted(title: str, headings: list[str], rows: list[list[str]], needed: int, width: int) -> Table:
    """A table of the ``needed`` first columns and of as many more as fit; plans are wrapped where those do not."""
    rows = [list(map(printable, row)) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    shown = needed
    while shown < len(widths) and sum(widths[: shown + 1]) + 2 * shown <= width:
        shown += 1
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold"
    )
    for heading in headings[:shown]:
        is_text = heading in ("plan", "model")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in rows:
        table.add_row(*row[:shown], style="dim" if row[0] == BASELINE else None)
    return table


def _plan(plan: Plan, shares: dict[str, float], with_model: bool = True) -> str:
    """A plan, and behind its precision how much of the arithmetic has it: ``int8_ptq (96% in int8)``."""
    kept = shown(plan.deployment.precision, shares)
    return plan_text(plan, with_model) + (f" ({kept})" if kept else "")


def _name(point: Point, front: Front) -> str:
    if point.trial is None:
        return BASELINE
    is_knee = front.knee is not None and point == front.points[front.knee]
    return f"{point.trial}{'*' if is_knee else ''}"


def _heading(name: str) -> str:
    unit = split(name)[0].unit
    return f"{name} [{unit}]" if unit and unit.lower() not in name else name


def _cell(point: Point, name: str, with_interval: bool, baseline: Point | None) -> str:
    value = point.metrics.value(name)
    if value is None:
        return "not measured"
    if not with_interval:
        return f"{value:.3g}"
    text = f"{value:.3f}" if name == "accuracy" else f"{value:.3g}"
    if name in point.metrics.intervals:
        low, high = point.metrics.intervals[name]
        text += f"±{(high - low) / 2:.1g}"
    base = baseline.metrics.value(name) if baseline and point.trial is not None else None
    return f"{text} ({value / base:.2f})" if base and name != "accuracy" else text


def missing_notes(columns: list[str], models: dict[str, Metrics]) -> list[str]:
    """Why a cell says "not measured": one line for each metric and reason, with the models that it holds for."""
    missing: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(columns):
        for model, metrics in models.items():
            if reason := metrics.reasons.get(name):
                missing.setdefault((name, reason), []).append(model)
    return [
        printable(f"{name} is not measured ({'all' if len(names) == len(models) else ', '.join(names)}): {reason}")
        for (name, reason), names in missing.items()
    ]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_status(state: dict[str, Any], console: Console | None = None) -> None:
    console = console or Terminal()
    marked = EMULATED if state["emulated"] else ""
    of_wanted = "" if state["wanted"] is None else f" of {state['wanted']}"
    trained = f"{state['trained']}{of_wanted} plans trained"
    console.print(f"{marked}Study {state['study']}: {trained}, {state['open']} in progress")
    if state["waits"]:
        console.print(printable(f"A run {state['waits']}"), style="yellow", markup=False)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(state["outcomes"].items()))
    console.print(f"Outcomes: {outcomes or 'none yet'}", markup=False)
    for number, reason in state["failures"].items():
        console.print(printable(f"  trial {number}: {reason}"), style="red", markup=False)
    console.print(_spent(state["cpu_seconds"], state["busy_share"]), markup=False)
    if state["leaderboard"]:
        console.print(leaderboard_table(state, console.width))
        leaders = {plan_text(Plan.from_json(row["plan"])): Metrics.from_json(row) for row in state["leaderboard"]}
        for note in missing_notes([*state["objectives"], *EXTRA], leaders):
            console.print(note, style="dim", markup=False)
        _print_value_notes(leaders, console)
        for row in state["leaderboard"]:
            plan = Plan.from_json(row["plan"])
            if warning := in_name_only(plan.deployment.precision, row["shares"]):
                console.print(f"{plan_text(plan)}: {warning}", style="yellow", markup=False)


def _spent(cpu_seconds: Mapping[str, float], busy_share: float | None) -> str:
    """What a study has cost: stages that took a second or more, the largest first."""
    largest = sorted(cpu_seconds.items(), key=lambda pair: -pair[1])
    parts = [f"{Stage(name).words} {seconds:.0f}" for name, seconds in largest if seconds >= 0.5]
    text = f"CPU-seconds: {sum(cpu_seconds.values()):.0f}" + (f" ({', '.join(parts)})" if parts else "")
    return text if busy_share is None else f"{text}; {busy_share:.0%} of the cores' time"


def _print_value_notes(models: dict[str, Metrics], console: Console) -> None:
    """What to know before a value is believed: one line for each."""
    for model, metrics in models.items():
        for name, note in metrics.notes.items():
            console.print(f"{model}: {name} {metrics.value(name):.3g}, but {note}", style="yellow", markup=False)


def leaderboard_table(state: dict[str, Any], width: int) -> Table:
    objectives = list(state["objectives"])
    columns = [*objectives, *(name for name in EXTRA if name not in objectives)]
    rows = []
    for leader in state["leaderboard"]:
        metrics = Metrics.from_json(leader)
        cells = ["not measured" if (v := metrics.value(name)) is None else f"{v:.4g}" for name in columns]
        rows.append([_plan(Plan.from_json(leader["plan"]), leader["shares"]), *cells])
    title = f"{EMULATED if state['emulated'] else ''}Leaderboard: unpruned models as they would be shipped"
    return fitted(title, ["model", *map(_heading, columns)], rows, 1 + len(objectives), width)
