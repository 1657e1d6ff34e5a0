"""Tables in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from vitsearch.front import Front, Point
from vitsearch.ledger import Ledger
from vitsearch.metrics import split
from vitsearch.plan import Plan
from vitsearch.record import Values
from vitsearch.study import Study

EXTRA = ("latency_ms_p50", "peak_memory_mb", "size_mb", "params_m", "macs_m")


def print_front(front: Front, console: Console | None = None) -> None:
    console = console or Console()
    if not front.points:
        console.print(f"Study {front.study} has no feasible trained model yet: see 'vitsearch status {front.study}'.")
        return
    console.print(front_table(front))
    console.print("Intervals are 95 %. * is the knee: the point nearest to the best of all objectives at once.")


def front_table(front: Front) -> Table:
    columns = [*front.objectives, *(name for name in EXTRA if name not in front.objectives)]
    table = Table(title=f"Pareto front of {front.study}: {len(front.points)} models", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("plan")
    for name in columns:
        table.add_column(_heading(name), justify="right")
    rows = ([(front.baseline, "")] if front.baseline else []) + [
        (point, "*" if index == front.knee else "") for index, point in enumerate(front.points)
    ]
    for point, mark in rows:
        name = "base" if point.trial is None else f"{point.trial}{mark}"
        cells = [_cell(point, metric, metric in front.objectives, front.baseline) for metric in columns]
        table.add_row(name, cut_text(point.plan), *cells, end_section=point.trial is None)
    return table


def cut_text(plan: Plan) -> str:
    """What a plan is, in one short line."""
    cut = plan.compression
    parts = [f"{plan.backbone}@{plan.resolution}"]
    if cut.head_pruning_ratio:
        parts.append(f"heads -{cut.head_pruning_ratio:.0%}")
    if cut.ffn_pruning_ratio:
        parts.append(f"ffn -{cut.ffn_pruning_ratio:.0%}")
    if cut.scope == "global" and not cut.is_identity:
        parts.append("global")
    return " ".join([*parts, plan.deployment.precision])


def _heading(name: str) -> str:
    unit = split(name)[0].unit
    return f"{name} [{unit}]" if unit and unit.lower() not in name else name


def _cell(point: Point, name: str, with_error: bool, baseline: Point | None) -> str:
    value = point.values.get(name)
    if value is None:
        return "not measured"
    text = f"{value:.4f}" if name == "accuracy" else f"{value:.3g}"
    if with_error and name in point.errors:
        low, high = point.errors[name]
        text += f" ±{(high - low) / 2:.2g}"
    base = baseline.values.get(name) if baseline and point.trial is not None else None
    if with_error and name != "accuracy" and base:
        text += f" ({value / base:.2f}x)"
    return text


def status(study: Study, ledger: Ledger) -> dict[str, Any]:
    """Where a study stands, as JSON."""
    records = study.records()
    space = study.space()
    return {
        "study": study.name,
        "trained": sum(record.trained for record in records.values()),
        "wanted": space.search.trials,
        "open": study.unfinished(),
        "outcomes": dict(Counter(_outcome(record.outcome, record.twin) for record in records.values())),
        "failures": {number: record.reason for number, record in records.items() if record.outcome == "failed"},
        "objectives": dict(space.objectives),
        "data": study.attributes.get("data"),
        "reference_point": study.attributes.get("reference_point"),
        "leaderboard": study.attributes.get("leaderboard", []),
        "cpu_seconds": ledger.cpu_seconds(),
    }


def _outcome(outcome: str, twin: int | None) -> str:
    return "duplicate" if twin is not None else outcome


def print_status(state: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console()
    console.print(f"Study {state['study']}: {state['trained']} of {state['wanted']} plans trained, {state['open']} open")
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(state["outcomes"].items()))
    console.print(f"Outcomes: {told or 'none yet'}")
    for number, reason in state["failures"].items():
        console.print(f"  trial {number}: {reason}", style="red")
    spent = {name: seconds for name, seconds in state["cpu_seconds"].items() if seconds}
    console.print("CPU-seconds by stage: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in spent.items()))
    if state["leaderboard"]:
        console.print(leaderboard_table(state["leaderboard"], list(state["objectives"])))


def leaderboard_table(rows: list[dict[str, Any]], objectives: list[str]) -> Table:
    columns = [*objectives, *(name for name in EXTRA if name not in objectives)]
    table = Table(title="Leaderboard: unpruned, before any training", title_justify="left")
    table.add_column("model")
    for name in columns:
        table.add_column(_heading(name), justify="right")
    for row in rows:
        values: Values = row["values"]
        shown = ["not measured" if (v := values.get(name)) is None else f"{v:.4g}" for name in columns]
        table.add_row(cut_text(Plan.from_json(row["plan"])), *shown)
    return table
