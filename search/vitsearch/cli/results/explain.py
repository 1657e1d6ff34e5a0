"""The output of `vitsearch explain`: what each knob did, which knobs matter, what predictions were worth."""

from __future__ import annotations

from rich.console import Console

from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import EMULATED
from vitsearch.cli.terminal import Terminal
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.explanation import Explanation, Prediction
from vitsearch.study.results.objectives import SMALL_CHANGE, SMALL_LOSS, ObjectiveEffects
from vitsearch_evaluators.base.printable import printable

MOST_PREDICTIONS = 12
"""Predictions that are shown, those that were furthest off."""
VERDICTS = {"nothing": "small"}
"""What the table calls a verdict that its figures would contradict: an effect is never proven to be nothing."""
INTERVALS = (
    "Intervals are those of the effect: from the scatter of the models around the sum of all effects, or from the "
    "errors of the times, predictions and accuracies themselves where those are larger. Small: gains of "
    f"{SMALL_CHANGE:.0%} of a cost, or {100 * SMALL_LOSS:g} points of accuracy, or more lie outside of it."
)


def print_explanation(found: Explanation, console: Console | None = None) -> None:
    console = console or Terminal()

    def line(text: str = "", style: str | None = None) -> None:
        console.print(printable(text), style=style, markup=False, highlight=False)

    line(f"{EMULATED if found.emulated else ''}What each knob did in study {found.study}{_on(found)}", "bold")
    for one in found.objectives:
        line()
        counted = f"{one.measured} measured" + (f" and {one.predicted} predicted" if one.predicted else "")
        line(f"{one.name} ({counted} models)", "bold")
        if one.importances:
            console.print(importance_table(one))
            line(_explained(one), "dim")
        for backbone in one.backbones:
            line()
            line(f"{backbone.backbone}: {backbone.about()}")
            if backbone.effects:
                console.print(effects_table(one, backbone))
    if any(backbone.effects for one in found.objectives for backbone in one.backbones):
        line()
        line(INTERVALS, "dim")
    lines = list(found.lines())
    if lines:
        line()
        line("In short", "bold")
        for text in lines:
            line(text)
    if (calibration := found.calibration) is not None:
        line()
        line("Predicted accuracy and what came", "bold")
        console.print(predictions_table(found.predictions))
        if len(found.predictions) > MOST_PREDICTIONS:
            line(f"the {MOST_PREDICTIONS} that were furthest off", "dim")
        for text in calibration.lines():
            line(text)


def _on(found: Explanation) -> str:
    return f" on {', '.join(found.shown_devices)}" if found.shown_devices else ""


def importance_table(one: ObjectiveEffects) -> Rows:
    rows = [[name, f"{100 * share:.1f} %"] for name, share in one.importances.items()]
    return Rows(["knob", "explains alone"], rows, ["knob"])


def _explained(one: ObjectiveEffects) -> str:
    share = "" if one.explained is None else f"; all knobs together explain {100 * one.explained:.0f} %"
    return f"share of the variance over all models that no other knob explains{share}"


def effects_table(one: ObjectiveEffects, found: BackboneEffects) -> Rows:
    """One row for each effect: what changes, by how much, and whether that is better."""
    rows = [
        [
            effect.knob,
            f"{effect.start} > {effect.to}",
            _percent(one, effect.estimate),
            _span(one, effect),
            VERDICTS.get(one.verdict(effect), one.verdict(effect)),
        ]
        for effect in found.effects
    ]
    unit = "points" if one.is_accuracy else "change"
    return Rows(["knob", "from > to", unit, "95 % interval", "is"], rows, ["knob", "from > to"])


def _percent(one: ObjectiveEffects, difference: float) -> str:
    value = 100 * one.change(difference)
    return f"{value:+.1f}" if one.is_accuracy else f"{value:+.0f} %"


def _span(one: ObjectiveEffects, effect: Effect) -> str:
    return f"{_percent(one, effect.low)} to {_percent(one, effect.high)}"


def predictions_table(predictions: tuple[Prediction, ...]) -> Rows:
    """The predictions that were furthest off."""
    furthest = sorted(predictions, key=lambda one: -abs(one.error))[:MOST_PREDICTIONS]
    rows = [
        [
            str(one.trial),
            f"{one.predicted:.4f}",
            "{:.4f} to {:.4f}".format(*one.interval),
            f"{one.measured:.4f}",
            f"{one.error:+.4f}",
            "yes" if one.holds else "no",
            "yes" if one.was_trained else "no",
        ]
        for one in furthest
    ]
    headings = ["trial", "predicted", "95 % interval", "measured", "error", "within", "trained"]
    return Rows(headings, rows)
