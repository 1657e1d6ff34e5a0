"""Tables in the terminal: what all of them share, and the state of a study."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vitsearch.cli.rows import Rows
from vitsearch.cli.terminal import Terminal
from vitsearch.core.caveats.precision_shares import shown
from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import COMPARED, split
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.stage import Stage
from vitsearch_agent.base.printable import printable

if TYPE_CHECKING:
    from vitsearch.study.status import DiskUse, Status

BASELINE = "baseline"
EMULATED = "EMULATED: "
UNITS = ("B", "kB", "MB", "GB", "TB")
DISK_PARTS = {"files": "files", "database": "database", "images": "images", "agent": "local agent", "other": "other"}


def plan_cell(plan: Plan, shares: Mapping[str, float], with_model: bool = True, columns: Collection[str] = ()) -> str:
    """A plan, and behind its precision how much of the arithmetic has it: `int8_ptq (96% in int8)`; without what has a
    column of its own (`columns_of_runs`)."""
    kept = shown(plan.deployment.precision, shares)
    alone: dict[str, Any] = {"batch": 1, "threads": 1, "streams": None}
    changes = {name: value for name, value in alone.items() if name in columns}
    plan = replace(plan, deployments=(replace(plan.deployment, **changes),))
    return plan_text(plan, with_model) + (f" ({kept})" if kept else "")


RUN_OF_IMAGES = (
    "Times are those of one run, which has as many images as the batch says; throughput and energy count images."
)


def columns_of_runs(plans: Sequence[Plan]) -> list[str]:
    """`batch`, `threads` and `streams`, as far as the plans differ in them or have more than one."""
    deployed = [plan.deployment for plan in plans]
    batches, threads = {each.batch for each in deployed}, {each.threads for each in deployed}
    streams = {each.streams for each in deployed}
    shown = {
        "batch": len(batches) > 1 or has_images(plans),
        "threads": bool(threads - {1}),
        "streams": bool(streams - {None, 1}),
    }
    return [name for name, is_shown in shown.items() if is_shown]


def has_images(plans: Iterable[Plan]) -> bool:
    """Whether a run of one of the plans has several images."""
    return any((plan.deployment.batch or 1) > 1 for plan in plans)


def run_cell(plan: Plan, column: str) -> str:
    """The batch of a plan, `open` for any, or its threads or streams."""
    return str(plan.deployment.batch or "open" if column == "batch" else getattr(plan.deployment, column) or "")


def columns_of_devices(objectives: Collection[str], models: Iterable[Metrics]) -> list[str]:
    """The metrics of the single devices of a fleet of which an objective is made: `cpu_ms_p50@nano`."""
    names = dict.fromkeys(name for metrics in models for name in metrics.figures if "@" in name)
    return [name for name in names if name.partition("@")[0] in objectives and name not in objectives]


def heading(name: str) -> str:
    """The name of a metric, with its unit where the name does not say it."""
    unit = split(name)[0].unit
    return f"{name} [{unit}]" if unit and unit.lower() not in name else name


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


def disk(size: int) -> str:
    """A size on disk, in units of 1000: `1.7 MB`."""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000.0, unit + 1
    return f"{value:.3g} {UNITS[unit]}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_status(state: Status, console: Console | None = None) -> None:
    console = console or Terminal()
    marked = EMULATED if state.emulated else ""
    of_wanted = "" if state.wanted is None else f" of {state.wanted}"
    trained = f"{state.trained}{of_wanted} plans trained"
    console.print(printable(f"{marked}Study {state.study}: {trained}, {state.open} in progress"), markup=False)
    named = "Device" if len(state.devices) == 1 else "Devices"
    console.print(printable(f"{named}: {', '.join(state.devices)}"), markup=False)
    for run in state.runs:
        work = "Search run" if run.purpose == "search" else "Other work"
        since = f"{run.since[:16].replace('T', ' ')} UTC"
        who = f"by {run.user} on {run.host} (pid {run.pid})"
        console.print(printable(f"{work} {who} since {since}"), markup=False)
        for stage, how_far in run.doing.items():
            console.print(printable(f"  {stage}, {how_far}"), markup=False)
        if run.waits and not state.waits:
            console.print(printable(f"  {run.waits}"), style="yellow", markup=False)
    if not state.runs:
        ended = f"; the last search ended: {state.search_end}" if state.search_end else ""
        console.print(printable(f"No run is under way{ended}"), markup=False)
    if state.waits:
        console.print(printable(f"A run {state.waits}"), style="yellow", markup=False)
    for change in state.space_changes:
        when = f"{change.time[:10]} after {counted(change.trials, 'trial')}"
        console.print(printable(f"Space changed on {when}: {change.describe()}"), markup=False)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(state.outcomes.items()))
    console.print(f"Outcomes: {outcomes or 'none yet'}", markup=False)
    for number, reason in state.failures.items():
        console.print(printable(f"  trial {number}: {reason}"), style="red", markup=False)
    for line in state.quality_warnings:
        console.print(printable(line), style="yellow", markup=False)
    console.print(_spent(state.cpu_seconds, state.busy_share), markup=False)
    console.print(_times(state), markup=False)
    if state.disk is not None:
        console.print(printable(_disk(state.disk)), markup=False)
    if state.leaderboard:
        console.print(leaderboard_table(state))
        leaders = {plan_text(leader.model): leader.metrics for leader in state.leaderboard}
        for note in missing_notes([*state.objectives, *COMPARED], leaders):
            console.print(note, style="dim", markup=False)
        print_value_notes(leaders, console)
        for leader in state.leaderboard:
            for warning in leader.warnings:
                console.print(printable(f"{plan_text(leader.model)}: {warning}"), style="yellow", markup=False)


def _spent(cpu_seconds: Mapping[str, float], busy_share: float | None) -> str:
    """What a study has cost: stages that took a second or more, the largest first."""
    largest = sorted(cpu_seconds.items(), key=lambda pair: -pair[1])
    parts = [f"{Stage(name).words} {seconds:.0f}" for name, seconds in largest if seconds >= 0.5]
    text = f"CPU-seconds: {sum(cpu_seconds.values()):.0f}" + (f" ({', '.join(parts)})" if parts else "")
    return text if busy_share is None else f"{text}; {busy_share:.0%} of the cores' time"


def _times(state: Status) -> str:
    """How long trainers and devices worked, and what was there already."""
    worked = f"trainers {state.trainer_seconds:.0f}, devices {state.device_seconds:.0f}"
    text = f"Seconds: {worked}, reused {state.reused_seconds:.0f}"
    if state.eta is None:
        return text
    return f"{text}; a perfect schedule takes {state.eta:.0%} of the {state.wall_seconds:.0f} s"


def _disk(use: DiskUse) -> str:
    """What a study takes on this machine, by what it is for."""
    sizes = {words: getattr(use, f"{name}_bytes") for name, words in DISK_PARTS.items()}
    parts = ", ".join(f"{words} {disk(size)}" for words, size in sizes.items() if size)
    least = "" if use.is_complete else "at least "
    text = f"On disk: {least}{disk(sum(size or 0 for size in sizes.values()))}" + (f" ({parts})" if parts else "")
    if use.files_bytes is None and use.files_place:
        text += f"; its files in {use.files_place} are not counted"
    if use.shared_with:
        text += f"; shared with {', '.join(use.shared_with)}"
    return text


def print_value_notes(models: dict[str, Metrics], console: Console) -> None:
    """What to know before a value is believed: one line for each."""
    for model, metrics in models.items():
        for name, note in metrics.notes.items():
            value = metrics.value(name)
            said = printable(f"{model}: {name} {'is not known' if value is None else f'{value:.3g}'}, but {note}")
            console.print(said, style="yellow", markup=False)


def leaderboard_table(state: Status) -> Rows:
    objectives = list(state.objectives)
    of_devices = columns_of_devices(objectives, (leader.metrics for leader in state.leaderboard))
    columns = [*objectives, *of_devices, *(name for name in COMPARED if name not in objectives)]
    runs = columns_of_runs([leader.model for leader in state.leaderboard])
    rows = []
    for leader in state.leaderboard:
        metrics, plan = leader.metrics, leader.model
        cells = ["not measured" if (v := metrics.value(name)) is None else f"{v:.4g}" for name in columns]
        of_run = [run_cell(plan, column) for column in runs]
        rows.append([plan_cell(plan, leader.shares, columns=runs), *of_run, *cells])
    title = f"{EMULATED if state.emulated else ''}Leaderboard: unpruned models as they would be shipped"
    needed = 1 + len(runs) + len(objectives) + len(of_devices)
    return Rows(["model", *runs, *map(heading, columns)], rows, ["model"], title, needed)
