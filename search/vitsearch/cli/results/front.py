"""The table of `vitsearch front`, and the lines under it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import typer
from rich.console import Console

from vitsearch.api import StoredStudy
from vitsearch.cli.arguments import Form, Query, command_text
from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import (
    BASELINE,
    EMULATED,
    RUN_OF_IMAGES,
    columns_of_devices,
    columns_of_runs,
    counted,
    has_images,
    heading,
    missing_notes,
    plan_cell,
    print_value_notes,
    run_cell,
)
from vitsearch.cli.terminal import Terminal
from vitsearch.core.json_value import json_text
from vitsearch.core.metrics import COMPARED, split
from vitsearch.core.plan import model_text
from vitsearch.space import LOCAL_DEVICE
from vitsearch.study.front import Front, Point
from vitsearch.study.printed.models import PrintedFront, PrintedSelection
from vitsearch.study.results import exports
from vitsearch.study.results.expression import Expression
from vitsearch.study.results.nearest import Nearest, near_text
from vitsearch.study.results.selection import Selection, ties, why_none
from vitsearch_agent.base.printable import printable
from vitsearch_agent.wire.measurement import PAIRED

OF_THE_DEVICE = ("sustained_throttling", "throttled", "warm_start", "swapped", "unverified_device")
"""Flags of a device that was not in its normal state, so its times are not either."""
QUIET = (
    "Other work shares the device, so p50 is the estimated time on an idle machine, from reference models that ran "
    "beside each model. The times as measured are ..._p50_raw in --json. p95, throughput, concurrent latency and load "
    "time are always as measured."
)
UNKNOWN_LEGEND = "±? is an interval wider than its value: the device was disturbed, so measure again when it is idle."
TIED = "~"
"""Behind a value that does not differ significantly from that of a neighbour on the front."""
UNJUDGED = "?"
"""Behind a model of which a limit cannot be judged."""
LEGEND = "± is half of a 95 % interval, in brackets the share of the baseline; * marks the knee."
TIE_LEGEND = f"{TIED} marks a tie with a neighbour on the front: these figures leave open which of the two is better."


def show(stored: StoredStudy, query: Query, form: Form) -> bool:
    """Print the models that `query` asks for; returns whether there is one."""
    models = stored.models(query.device) if query.every else stored.front(query.device)
    selection = Selection.of(query.where, query.sort, (*models.objectives, *models.metrics_of_devices))
    candidates = (*models.points, *models.others) if query.every else models.points
    chosen = selection.of_points(candidates)
    nearest = None if models.points else stored.nearest(query.device)
    if form == Form.JSON:
        typer.echo(json_text(PrintedSelection.with_nearest(PrintedFront.of(models, chosen), nearest)))
    elif form == Form.TABLE and selection.where is not None and candidates and not chosen:
        print_nothing(selection.where, candidates)
    elif form == Form.TABLE:
        (print_models if query.every else print_front)(models, None, chosen)
        if models.knee is not None and models.quality_warnings():
            knee = models.points[models.knee].trial
            typer.echo(f"Every class: {command_text('show', stored.where, str(knee), '--per-class')}")
        if nearest is not None:
            print_nearest(nearest)
    else:
        typer.echo(exported(models, chosen, form, stored), nl=False)
    return bool(chosen)


def exported(front: Front, chosen: Sequence[Point], form: Form, stored: StoredStudy) -> str:
    """The models in another tool's form."""
    if form == Form.MARKDOWN:
        return exports.to_markdown(front, chosen)
    conditions = stored.conditions(chosen)
    if form == Form.CSV:
        return exports.to_csv(front, exports.rows(front, chosen, conditions))
    return exports.to_perf_yaml(front, chosen, conditions)


def print_front(front: Front, console: Console | None = None, chosen: Sequence[Point] | None = None) -> None:
    """The `chosen` models of the front (default: all), below the baseline."""
    console = console or Terminal()
    if not front.points:
        console.print(
            f"{EMULATED if front.emulated else ''}Study {printable(front.study)} has no confirmed model within its "
            "limits yet: 'vitsearch status' shows its progress.",
            markup=False,
        )
        return
    shown = front.points if chosen is None else chosen
    console.print(front_table(front, shown))
    _print_legend(front, shown, console)
    tied = zip(front.points, ties(front.points, front.objectives), strict=True)
    if any(tie and point in shown for point, tie in tied):
        console.print(TIE_LEGEND, markup=False)
    for line in same_in_all(front, shown):
        console.print(line, markup=False)
    _print_notes(front, [*([front.baseline] if front.baseline else []), *shown], console)


def print_models(front: Front, console: Console | None = None, chosen: Sequence[Point] | None = None) -> None:
    """The `chosen` models of a study (default: all), those of the front among them, with what the others lack."""
    console = console or Terminal()
    models = (*front.points, *front.others)
    shown = models if chosen is None else chosen
    if not models:
        console.print(f"Study {printable(front.study)} has no confirmed model yet.", markup=False)
        return
    console.print(models_table(front, shown))
    _print_legend(front, shown, console)
    _print_notes(front, [*([front.baseline] if front.baseline else []), *shown], console)


def _print_legend(front: Front, shown: Sequence[Point], console: Console) -> None:
    console.print(LEGEND, markup=False)
    if exports.has_unknown_spread(front, [*([front.baseline] if front.baseline else []), *shown]):
        console.print(UNKNOWN_LEGEND, markup=False)


def print_nearest(nearest: Nearest, console: Console | None = None) -> None:
    """What came nearest to the limits, and which limit to loosen by how much."""
    console = console or Terminal()
    if not nearest.models:
        return
    console.print("No model meets the limits. The nearest:", markup=False)
    for near in nearest.models:
        console.print(printable(f"  {near_text(near)}"), markup=False)
    console.print("One way out for each limit (in the space file):" if nearest.single else "The way out:", markup=False)
    for line in nearest.advice():
        console.print(printable(f"  {line}"), markup=False)


def same_in_all(front: Front, shown: Sequence[Point]) -> Iterator[str]:
    """Neighbours that are both `shown` and tie in every objective, in one line for each pair."""
    tied = ties(front.points, front.objectives)
    for (point, after), tie in zip(pairwise(front.points), tied, strict=False):
        is_shown = point in shown and after in shown
        if is_shown and all(after.name in tie.get(name, ()) for name in front.objectives):
            names = f"{point.name} and {after.name}"
            yield f"{names} are tied in every objective: these figures do not tell them apart."


def print_nothing(where: Expression, models: Sequence[Point], console: Console | None = None) -> None:
    """That an expression leaves none of the models, and why."""
    console = console or Terminal()
    text = f"--where leaves none of the {counted(len(models), 'model')}: {why_none(where, models)}"
    console.print(printable(text), markup=False, highlight=False)


def _print_notes(front: Front, shown: Sequence[Point], console: Console) -> None:
    if has_images(point.plan for point in shown):
        console.print(RUN_OF_IMAGES, style="dim", markup=False)
    if any(point.basis == PAIRED for point in shown):
        console.print(QUIET, style="dim", markup=False)
    metrics = {point.name: point.metrics for point in shown}
    if open_limits := unjudged_note(shown):
        console.print(open_limits, style="yellow", markup=False)
    for note in missing_notes([*front.objectives, *_further(front)], metrics):
        console.print(note, style="dim", markup=False)
    print_value_notes(metrics, console)
    for point in shown:
        if flags := ", ".join(flag for flag in point.flags if flag.partition("@")[0] in OF_THE_DEVICE):
            console.print(f"{point.name} was measured on a device with flags: {flags}", style="yellow", markup=False)
    if warnings := front.quality_warnings():
        for line in warnings:
            console.print(printable(line), style="yellow", markup=False)
    for line, names in _warnings(shown).items():
        console.print(printable(f"{', '.join(names)}: {line}"), style="yellow", markup=False)
    for point in shown:
        if text := on_test(point):
            console.print(text, markup=False)


def unjudged_note(shown: Sequence[Point]) -> str | None:
    """Which models have a limit that cannot be judged, and of which metrics."""
    texts = [
        f"{point.name} ({', '.join(point.unjudged)})" for point in shown if point.trial is not None and point.unjudged
    ]
    return f"{UNJUDGED} marks a model with a limit that cannot be judged: {', '.join(texts)}" if texts else None


def _warnings(shown: Sequence[Point]) -> dict[str, list[str]]:
    """Each warning once, with the models that it concerns."""
    models_of: dict[str, list[str]] = {}
    for point in shown:
        for warning in point.warnings:
            models_of.setdefault(warning, []).append(point.name)
    return models_of


def on_test(point: Point) -> str | None:
    """The quality on the test images, which only a model that was shipped has."""
    tested = point.on_test
    if tested is None:
        return None
    low, high = tested.interval
    figure = f"{tested.metric} {tested.value:.3f} ({low:.3f} to {high:.3f})"
    return f"{point.name} was shipped: {figure} on {tested.n} test images"


def front_table(front: Front, shown: Sequence[Point] | None = None) -> Rows:
    """The baseline and the models `shown` (all of the front by default), with as many of the further metrics as fit
    beside the objectives."""
    chosen = front.points if shown is None else shown
    points = [*([front.baseline] if front.baseline else []), *chosen]
    of_devices = columns_of_devices(front.objectives, [point.metrics for point in points])
    columns = [*front.objectives, *of_devices, *_further(front)]
    runs = columns_of_runs([point.plan for point in points])
    several = len({model_text(point.plan) for point in points}) > 1
    tied = {point.name: tie for point, tie in zip(front.points, ties(front.points, front.objectives), strict=True)}
    rows = [
        [
            _name(point, front),
            plan_cell(point.plan, point.shares, several, runs),
            *(run_cell(point.plan, column) for column in runs),
            *(_cell(point, metric, front, tied.get(point.name, {})) for metric in columns),
        ]
        for point in points
    ]
    about = "" if several else f", all {model_text(points[0].plan)}"
    marked = EMULATED if front.emulated else ""
    number = counted(len(front.points), "model")
    if len(chosen) < len(front.points):
        number = f"{len(chosen)} of {number}"
    title = f"{marked}Pareto front of study {_where(front)}: {number}{about}"
    needed = 2 + len(runs) + len(front.objectives) + len(of_devices)
    return Rows(["trial", "plan", *runs, *map(heading, columns)], rows, ["plan"], title, needed, dimmed=[BASELINE])


def _further(front: Front) -> list[str]:
    """The metrics beside the objectives: first those that the space file limits."""
    return [name for name in dict.fromkeys([*front.limited, *COMPARED]) if name not in front.objectives]


def models_table(front: Front, shown: Sequence[Point]) -> Rows:
    """The models `shown`, each with its place: on the front, dominated, or the limits that it breaks."""
    points = [*([front.baseline] if front.baseline else []), *shown]
    of_devices = columns_of_devices(front.objectives, [point.metrics for point in points])
    columns = [*front.objectives, *of_devices, *_further(front)]
    runs = columns_of_runs([point.plan for point in points])
    rows = [
        [
            _name(point, front),
            plan_cell(point.plan, point.shares, columns=runs),
            *(run_cell(point.plan, column) for column in runs),
            *(_cell(point, metric, front, {}) for metric in front.objectives),
            _place(point, front),
            *(_cell(point, metric, front, {}) for metric in columns[len(front.objectives) :]),
        ]
        for point in points
    ]
    total = len(front.points) + len(front.others)
    number = counted(total, "model") if len(shown) == total else f"{len(shown)} of {counted(total, 'model')}"
    title = f"{EMULATED if front.emulated else ''}Models of study {_where(front)}: {number}"
    headings = [
        "trial",
        "plan",
        *runs,
        *map(heading, front.objectives),
        "place",
        *map(heading, columns[len(front.objectives) :]),
    ]
    needed = 3 + len(runs) + len(front.objectives) + len(of_devices)
    return Rows(headings, rows, ["plan", "place"], title, needed, dimmed=[BASELINE])


def _where(front: Front) -> str:
    """The study and the device, with its host; without it before anything was measured."""
    return front.study if front.shown_device == LOCAL_DEVICE else f"{front.study} on {front.shown_device}"


def _place(point: Point, front: Front) -> str:
    if point.trial is None:
        return ""
    if point.breaks:
        return f"breaks {', '.join(point.breaks)}"
    if point in front.points:
        return "front"
    missing = point.unmeasured(front.objectives)
    return f"{', '.join(missing)} not measured" if missing else "dominated"


def _name(point: Point, front: Front) -> str:
    if point.trial is None:
        return BASELINE
    is_knee = front.knee is not None and point == front.points[front.knee]
    return f"{point.trial}{'*' if is_knee else ''}{UNJUDGED if point.unjudged else ''}"


def _cell(point: Point, name: str, front: Front, tied: Mapping[str, object]) -> str:
    value = point.metrics.value(name)
    if value is None:
        return "not measured"
    if name not in front.objectives:
        return f"{value:.3g}"
    text = "±".join(exports.digits(point.metrics, name))
    if name in tied:
        text += TIED
    base = front.baseline.metrics.value(name) if front.baseline and point.trial is not None else None
    return f"{text} ({value / base:.2f})" if base and not split(name)[0].is_share else text
