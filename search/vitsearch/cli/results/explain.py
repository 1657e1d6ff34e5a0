"""The output of `vitsearch explain`: what each knob did, which knobs matter, what predictions were worth."""

from __future__ import annotations

from rich.console import Console

from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import EMULATED, heading
from vitsearch.cli.terminal import Terminal
from vitsearch.core.metrics import split
from vitsearch.study.results.backbone_standing import BackboneStanding, BestFigure
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.explanation import EvaluatedPrediction, Explanation
from vitsearch.study.results.objectives import SMALL_CHANGE, SMALL_LOSS, ObjectiveEffects
from vitsearch_agent.base.printable import printable

MOST_PREDICTIONS = 12
"""Predictions that are shown, those that were furthest off."""
VERDICTS = {"nothing": "no gain"}
"""What the table calls a verdict that its figures would contradict: an effect is never proven to be nothing."""
INTERVALS = (
    "Intervals are those of the effect, the widest of three: from the scatter of the models around the sum of all "
    "effects, from how far the effect moves without each single model, and from the errors of the times, predictions "
    'and qualities themselves. "No gain": the interval excludes a gain of at least '
    f"{SMALL_CHANGE:.0%} of a cost, or {100 * SMALL_LOSS:g} % of a quality's range, worst to best (of a share: points)."
)


def print_explanation(explanation: Explanation, console: Console | None = None) -> None:
    console = console or Terminal()

    def line(text: str = "", style: str | None = None) -> None:
        console.print(printable(text), style=style, markup=False, highlight=False)

    line(
        f"{EMULATED if explanation.emulated else ''}What each knob did in study {explanation.study}{_on(explanation)}",
        "bold",
    )
    if explanation.dropped:
        line()
        line("Not searched: no base was trained for these", "bold")
        for dropped in explanation.dropped:
            line(dropped.describe())
    if len(explanation.backbones) > 1:
        line()
        line("Comparison of the backbones", "bold")
        console.print(backbones_table(explanation))
        line("The best figures are those of different models that break no limit, with 95 % intervals.", "dim")
    for objective in explanation.objectives:
        line()
        counted = f"{objective.measured} measured" + (
            f" and {objective.predicted} predicted" if objective.predicted else ""
        )
        line(f"{objective.name} ({counted} models)", "bold")
        if objective.importances:
            console.print(importance_table(objective))
            line(_explained(objective), "dim")
        for backbone in objective.backbones:
            line()
            line(f"{backbone.backbone}: {backbone.about()}")
            if backbone.effects:
                console.print(effects_table(objective, backbone))
            for reason in backbone.reasons():
                line(reason, "dim")
    if any(backbone.effects for objective in explanation.objectives for backbone in objective.backbones):
        line()
        line(INTERVALS, "dim")
    lines = list(explanation.lines())
    if lines:
        line()
        line("In short", "bold")
        for text in lines:
            line(text)
    if (calibration := explanation.calibration) is not None:
        line()
        line(f"Predicted and measured {explanation.predictions[0].metric}", "bold")
        console.print(predictions_table(explanation.predictions))
        if len(explanation.predictions) > MOST_PREDICTIONS:
            line(f"the {MOST_PREDICTIONS} that were furthest off", "dim")
        for text in calibration.lines():
            line(text)
    if explanation.ending:
        line()
        line("The end of the search", "bold")
        for text in explanation.ending:
            line(text)


def _on(explanation: Explanation) -> str:
    return f" on {', '.join(explanation.shown_devices)}" if explanation.shown_devices else ""


def backbones_table(explanation: Explanation) -> Rows:
    """One row for each backbone: its models, and the best figure in each objective."""
    objectives = [objective.name for objective in explanation.objectives]
    rows = [
        [
            row.backbone,
            str(row.models),
            _in_limits(row),
            str(len(row.on_front)),
            *(_best(row.best_in(objective)) for objective in objectives),
        ]
        for row in explanation.backbones
    ]
    headings = ["backbone", "models", "in limits", "on front", *(f"best {heading(name)}" for name in objectives)]
    return Rows(headings, rows, ["backbone"])


def _in_limits(row: BackboneStanding) -> str:
    return f"{row.within_limits}{f' (+{row.unjudged} not judged)' if row.unjudged else ''}"


def _best(figure: BestFigure | None) -> str:
    if figure is None:
        return "-"
    form = ".4f" if split(figure.objective)[0].is_share else ".3g"
    if figure.low is None or figure.high is None:
        return format(figure.value, form)
    return f"{figure.value:{form}} ({figure.low:{form}} to {figure.high:{form}})"


def importance_table(objective: ObjectiveEffects) -> Rows:
    rows = [[name, f"{100 * share:.1f} %"] for name, share in objective.importances.items()]
    return Rows(["knob", "explains alone"], rows, ["knob"])


def _explained(objective: ObjectiveEffects) -> str:
    share = "" if objective.explained is None else f"; all knobs together explain {100 * objective.explained:.0f} %"
    return f"share of the variance over all models that no other knob explains{share}"


def effects_table(objective: ObjectiveEffects, backbone: BackboneEffects) -> Rows:
    """One row for each effect: what changes, by how much, and whether that is better."""
    rows = [
        [
            effect.knob,
            effect.at,
            f"{effect.start} > {effect.to}",
            _change(objective, effect.estimate),
            _span(objective, effect),
            VERDICTS.get(objective.verdict(effect), objective.verdict(effect)),
        ]
        for effect in backbone.effects
    ]
    headings = ["knob", "at", "from > to", _unit(objective), "95 % interval", "is"]
    if not any(effect.at for effect in backbone.effects):
        headings, rows = [headings[0], *headings[2:]], [[row[0], *row[2:]] for row in rows]
    return Rows(headings, rows, ["knob", "at", "from > to"])


def _unit(objective: ObjectiveEffects) -> str:
    """What the changes are in: costs change by a share, which has its own sign, qualities in their unit."""
    metric, _ = split(objective.name)
    return "points" if metric.is_share else (metric.is_quality and metric.unit) or "change"


def _change(objective: ObjectiveEffects, difference: float) -> str:
    change = objective.change(difference)
    if not objective.is_quality:
        return f"{100 * change:+.0f} %"
    return f"{100 * change:+.1f}" if split(objective.name)[0].is_share else f"{change:+.3g}"


def _span(objective: ObjectiveEffects, effect: Effect) -> str:
    return f"{_change(objective, effect.low).removesuffix(' %')} to {_change(objective, effect.high)}"


def predictions_table(predictions: tuple[EvaluatedPrediction, ...]) -> Rows:
    """The predictions that were furthest off."""
    furthest = sorted(predictions, key=lambda prediction: -abs(prediction.error))[:MOST_PREDICTIONS]
    rows = [
        [
            str(prediction.trial),
            f"{prediction.predicted:.4f}",
            "{:.4f} to {:.4f}".format(*prediction.interval),
            f"{prediction.measured:.4f}",
            f"{prediction.error:+.4f}",
            "yes" if prediction.holds else "no",
            "yes" if prediction.was_trained else "no",
        ]
        for prediction in furthest
    ]
    headings = ["trial", "predicted", "95 % interval", "measured", "error", "within", "trained"]
    return Rows(headings, rows)
