"""The output of `vitsearch show`: one model in full."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from vitsearch.api import StoredStudy
from vitsearch.cli.results.front import QUIET
from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import EMULATED, counted, heading
from vitsearch.cli.terminal import Terminal
from vitsearch.core.caveats.agreement import agreement_text
from vitsearch.core.json_value import json_text
from vitsearch.core.metrics import split
from vitsearch.core.plan import plan_text
from vitsearch.core.preprocessing import preprocessing_text
from vitsearch.core.record import ProxyScore
from vitsearch.space import LOCAL_DEVICE
from vitsearch.storage.ledger import StageResult
from vitsearch.study.knob_values import SHAPE, knob_values
from vitsearch.study.printed.details import PrintedDetail
from vitsearch.study.results.detail import File, LimitJudged, TrialDetail
from vitsearch.study.results.model_names import number_of
from vitsearch.tasks import CLASSIFICATION
from vitsearch_agent.base.printable import printable
from vitsearch_agent.wire.measurement import PAIRED

if TYPE_CHECKING:
    from vitsearch.tasks.classification.confusion import ClassAccuracy


def show(stored: StoredStudy, name: str, per_class: bool, as_json: bool) -> None:
    """Print a model that a person names, with the accuracy of each class if it is asked for."""
    trial = number_of(name, stored.front)
    detail = stored.show(trial)
    of_task = _class_figures(detail) if per_class else None
    classes = stored.class_accuracies(trial) if per_class and of_task is None else None
    if as_json:
        typer.echo(json_text(PrintedDetail.of(detail, classes)))
        return
    print_detail(detail)
    if classes is not None:
        print_classes(classes)
    if of_task is not None:
        print_class_figures(of_task)


def _class_figures(detail: TrialDetail) -> Mapping[str, Mapping[str, float]] | None:
    """Figures of each class by its name, where another task than classification keeps such ones."""
    tally = detail.point.tally
    return None if tally is None or tally.task == CLASSIFICATION else tally.details().get("classes")


def print_detail(detail: TrialDetail, console: Console | None = None) -> None:
    """Every part of a trial that is known, a heading for each."""
    console = console or Terminal()

    def line(text: str, style: str | None = None) -> None:
        console.print(printable(text), style=style, markup=False, highlight=False)

    on = "" if detail.shown_device == LOCAL_DEVICE else f" on {detail.shown_device}"  # without a host: not measured yet
    line(f"{EMULATED if detail.emulated else ''}{detail.point.name.capitalize()} of study {detail.study}{on}", "bold")
    line(plan_text(detail.point.plan))
    for text in _state(detail):
        is_copied = text.startswith(("file:", "sha256:"))  # what a person copies stays in one piece
        console.print(printable(text), markup=False, highlight=False, soft_wrap=is_copied)
    line("")
    console.print(metrics_table(detail))
    if (images := detail.point.plan.deployment.batch or 1) > 1:
        line(f"Times are those of one run of {images} images; throughput and energy count images.", "dim")
    if detail.point.basis == PAIRED:
        line(QUIET.replace(" in --json", ""), "dim")
    reasons = detail.point.metrics.reasons
    for name, reason in reasons.items():
        if "@" in name and name.partition("@")[0] in reasons:
            continue  # the reason of the fleet names the device
        line(f"{name} is not measured: {reason}", "dim")
    for name, note in detail.point.metrics.notes.items():
        line(f"{name}: {note}", "yellow")
    if detail.labelled_by is not None:
        line(agreement_text(detail.labelled_by), "yellow")
    for warning in (*detail.point.quality_warnings, *detail.point.warnings):
        line(warning, "yellow")
    if detail.point.flags:
        line(f"flags of all its measurements: {', '.join(detail.point.flags)}", "yellow")
    line("")
    console.print(knobs_table(detail))
    if detail.stages:
        line("")
        console.print(stages_table(detail.stages))
        for text in _sums(detail.stages):
            line(text, "dim")


def _state(detail: TrialDetail) -> Iterator[str]:
    record = detail.record
    yield f"place:   {detail.place}"
    trained = f"trained for {counted(record.rung, 'epoch')}" if record.rung > 0 else "without training"
    yield f"outcome: {record.shown_outcome}, {trained}" + (f": {record.reason}" if record.reason else "")
    if record.failure is not None:
        yield "failure: " + ", ".join(f"{key} {value}" for key, value in record.failure.items())
    for limit in detail.limits:
        yield f"limit:   {_limit(limit)}"
    if record.proxy is not None:
        yield from _predicted(record.proxy, detail)
    yield from _file(detail.file)


def _limit(limit: LimitJudged) -> str:
    if limit.is_met is None:
        return f"{limit.name}: not known, because the metric was not measured"
    return f"{limit.name}: {'met' if limit.is_met else 'broken'} ({limit.shown})"


def _predicted(proxy: ProxyScore, detail: TrialDetail) -> Iterator[str]:
    away = f"{proxy.divergence:.2g} {detail.divergence_unit} from the unpruned model"
    for name, estimate in proxy.predicted.items():
        measured = detail.point.metrics.value(name)
        text = f"{name}: predicted {estimate.text} ({away})"
        yield text if measured is None else f"{text}, measured {measured:.4f}"


def _file(file: File | None) -> Iterator[str]:
    if file is None:
        yield "file:    none was exported"
        return
    missing = f"not on this machine; the store is {file.store}"
    yield f"file:    {missing if file.path is None else _short(file.path)}"
    yield f"sha256:  {file.sha256}"
    yield f"size:    {file.size_bytes / 1e6:.3g} MB"
    yield f"input:   {preprocessing_text(file.preprocessing)}"
    if file.cosine is not None:
        yield f"cosine:  {file.cosine:.6f} of its logits to those of fp32 (mean, validation images)"


def _short(path: Path) -> str:
    """Relative to the current folder where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def metrics_table(detail: TrialDetail) -> Rows:
    """Every metric that was measured, with its interval and its share of the baseline's."""
    rows = []
    for name, figure in detail.point.metrics.figures.items():
        if figure.value is None:
            continue
        base = None if detail.baseline is None else detail.baseline.metrics.value(name)
        span = "" if figure.low is None or figure.high is None else f"{figure.low:.4g} to {figure.high:.4g}"
        share = "" if base is None else _against(name, figure.value, base)
        rows.append([heading(name), f"{figure.value:.4g}", span, share])
    return Rows(["metric", "value", "95 % interval", "against the baseline"], rows, ["metric"])


def _against(name: str, value: float, base: float) -> str:
    if split(name)[0].is_share:
        return f"{value - base:+.4f}"
    return f"x {value / base:.3g}" if base else ""


def knobs_table(detail: TrialDetail) -> Rows:
    """The knobs of the plan; those that its backbone does not have are left out."""
    values = knob_values(detail.point.plan)
    values["resolution"] = values.pop(SHAPE) or values["resolution"]  # of images that are no squares, the shape
    rows = [
        [name, f"{value:g}" if isinstance(value, float) else value]
        for name, value in values.items()
        if value not in (None, "")
    ]
    return Rows(["knob", "value"], rows, ["knob", "value"])


def stages_table(stages: tuple[StageResult, ...]) -> Rows:
    """When each result was made, where, and what that cost."""
    rows = []
    for run in stages:
        name = f"{run.stage.words} ({run.detail})" if run.detail else run.stage.words
        cost = run.cost
        seconds = (
            ["?", "?", ""] if cost is None else [f"{cost.wall_seconds:.1f}", f"{cost.cpu_seconds:.1f}", cost.ran_on]
        )
        rows.append([name, f"{datetime.fromtimestamp(run.made_at, UTC):%Y-%m-%d %H:%M:%S}", *seconds])
    return Rows(["stage", "finished (UTC)", "seconds", "CPU-seconds", "on"], rows, ["stage"])


def _sums(stages: tuple[StageResult, ...]) -> Iterator[str]:
    costs = [run.cost for run in stages if run.cost is not None]
    wall, cpu = sum(cost.wall_seconds for cost in costs), sum(cost.cpu_seconds for cost in costs)
    yield f"together {wall:.1f} s, {cpu:.1f} CPU-seconds"
    if len(costs) < len(stages):
        yield "?: not run for this model; the result of an identical file was reused"


def print_class_figures(classes: Mapping[str, Mapping[str, float]], console: Console | None = None) -> None:
    """The figures that a task keeps of each class, the least of the first figure first."""
    console = console or Terminal()
    heads = list(next(iter(classes.values()), {}))
    ordered = sorted(classes.items(), key=lambda item: item[1][heads[0]])
    rows = [[name, *(_number(figures[head]) for head in heads)] for name, figures in ordered]
    console.print("")
    console.print(Rows(["class", *heads], rows, ["class"]))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def print_classes(classes: list[ClassAccuracy], console: Console | None = None) -> None:
    """What the model finds of each class, the worst first."""
    console = console or Terminal()
    rows = [
        [
            row.name,
            f"{row.accuracy:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            f"{row.correct} of {row.n}",
            "" if row.precision is None else f"{row.precision:.3f}",
            "" if row.confused_with is None else f"{row.confused_with} ({row.confused})",
        ]
        for row in sorted(classes, key=lambda row: row.accuracy)
    ]
    console.print("")
    heads = ["class", "recall", "95 % interval", "images", "precision", "taken for"]
    console.print(Rows(heads, rows, ["class", "taken for"]))
    correct, n = (
        sum(row.correct for row in classes),
        sum(row.n for row in classes),
    )
    console.print(
        f"{correct:,} of {n:,} validation images are right, counted when the file was exported.",
        markup=False,
        style="dim",
    )
