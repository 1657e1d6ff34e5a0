"""The output of `vitsearch compare`: two models, metric by metric and knob by knob."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console

from vitsearch.api import StoredStudy
from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import EMULATED, RUN_OF_IMAGES, has_images, heading
from vitsearch.cli.terminal import Terminal
from vitsearch.core.json_value import json_text
from vitsearch.core.metrics import split
from vitsearch.core.plan import plan_text
from vitsearch.study.printed.details import PrintedComparison
from vitsearch.study.results.comparison import Comparison, MetricCompared
from vitsearch.study.results.model_names import number_of
from vitsearch_agent.base.printable import printable

KNOBS = ("knob", "A", "B")


def compare(stored: StoredStudy, first: str, second: str, paired: bool, as_json: bool) -> None:
    """Print the comparison of two models that a person names: a trial's number, `baseline` or `knee`."""
    comparison = stored.compare(number_of(first, stored.front), number_of(second, stored.front), paired)
    typer.echo(json_text(PrintedComparison.of(comparison))) if as_json else print_comparison(comparison)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    console = console or Terminal()
    if comparison.emulated:
        console.print(f"{EMULATED}the times are those of an emulated device", markup=False)
    for letter, point in (("A", comparison.first), ("B", comparison.second)):
        console.print(printable(f"{letter}: {point.name}: {plan_text(point.plan)}"), markup=False, style="bold")
    console.print("")
    console.print(metrics_table(comparison))
    paired = f"; for {comparison.metric}, from the paired outputs on the same images"
    how = paired if comparison.is_judged_by_pairs else ""
    console.print(f"B/A with its 95 % interval; for shares of images, B - A{how}.", style="dim", markup=False)
    if has_images([comparison.first.plan, comparison.second.plan]):
        console.print(RUN_OF_IMAGES, style="dim", markup=False)
    console.print("")
    if comparison.knobs:
        rows = [[name, _text(first), _text(second)] for name, (first, second) in comparison.knobs.items()]
        console.print(Rows(KNOBS, rows, KNOBS))
    else:
        console.print("All knobs are equal.")
    console.print("")
    for line in comparison.summary():
        console.print(printable(line), markup=False)


def metrics_table(comparison: Comparison) -> Rows:
    """Metrics that at least one of the two has."""
    rows = [
        [heading(metric.name), _value(metric.first), _value(metric.second), _change(metric), _verdict(metric)]
        for metric in comparison.metrics
        if metric.first is not None or metric.second is not None
    ]
    return Rows(["metric", "A", "B", "B/A", "better"], rows, ["metric", "better"])


def _value(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _change(metric: MetricCompared) -> str:
    if metric.change is None:
        return ""
    is_share = split(metric.name)[0].is_share
    sign = "+" if is_share else ""
    form = ".4f" if is_share else ".3g"
    text = f"{metric.change:{sign}{form}}"
    return (
        text
        if metric.low is None or metric.high is None
        else f"{text} ({metric.low:{sign}{form}} to {metric.high:{sign}{form}})"
    )


def _verdict(metric: MetricCompared) -> str:
    return {"first": "A", "second": "B"}.get(metric.verdict, metric.verdict)


def _text(value: Any) -> str:
    if value in (None, ""):
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
