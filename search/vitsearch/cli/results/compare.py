"""The output of `vitsearch compare`: two models, metric by metric and knob by knob."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console

from vitsearch.api import StoredStudy
from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import EMULATED, heading
from vitsearch.cli.terminal import Terminal
from vitsearch.core.json_value import json_text
from vitsearch.core.metrics import split
from vitsearch.core.plan import plan_text
from vitsearch.study.printed.details import PrintedComparison
from vitsearch.study.results.comparison import Comparison, MetricCompared
from vitsearch.study.results.model_names import number_of
from vitsearch_evaluators.base.printable import printable

KNOBS = ("knob", "A", "B")


def compare(stored: StoredStudy, first: str, second: str, paired: bool, as_json: bool) -> None:
    """Print the comparison of two models that a person names: a trial's number, `baseline` or `knee`."""
    found = stored.compare(number_of(first, stored.front), number_of(second, stored.front), paired)
    typer.echo(json_text(PrintedComparison.of(found))) if as_json else print_comparison(found)


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    console = console or Terminal()
    if found.emulated:
        console.print(f"{EMULATED}the times are those of an emulated device", markup=False)
    for letter, point in (("A", found.first), ("B", found.second)):
        console.print(printable(f"{letter}: {point.name}: {plan_text(point.plan)}"), markup=False, style="bold")
    console.print("")
    console.print(metrics_table(found))
    how = "" if found.paired is None else ", that of the accuracies by the answers on the same images"
    console.print(f"B/A with its 95 % interval; of shares of images B - A{how}.", style="dim", markup=False)
    console.print("")
    if found.knobs:
        rows = [[name, _text(one), _text(other)] for name, (one, other) in found.knobs.items()]
        console.print(Rows(KNOBS, rows, KNOBS))
    else:
        console.print("All knobs are equal.")
    console.print("")
    for line in found.summary():
        console.print(printable(line), markup=False)


def metrics_table(found: Comparison) -> Rows:
    """Metrics that at least one of the two has."""
    rows = [
        [heading(one.name), _value(one.first), _value(one.second), _change(one), _verdict(one)]
        for one in found.metrics
        if one.first is not None or one.second is not None
    ]
    return Rows(["metric", "A", "B", "B/A", "better"], rows, ["metric", "better"])


def _value(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _change(one: MetricCompared) -> str:
    if one.change is None:
        return ""
    is_share = split(one.name)[0].is_share
    sign = "+" if is_share else ""
    form = ".4f" if is_share else ".3g"
    text = f"{one.change:{sign}{form}}"
    return (
        text if one.low is None or one.high is None else f"{text} ({one.low:{sign}{form}} to {one.high:{sign}{form}})"
    )


def _verdict(one: MetricCompared) -> str:
    return {"first": "A", "second": "B"}.get(one.verdict, one.verdict)


def _text(value: Any) -> str:
    if value in (None, ""):
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
