"""What the page of a report shows, as one frozen value.

The JSON form has one array for each column, and texts that repeat as an index into a list of words: a study of 1,000
trials needs about a third of what a list of objects would.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from vitsearch.core.figures import Z_95
from vitsearch.core.json_value import json_of
from vitsearch.core.limits import Bound, bounds
from vitsearch.core.metrics import COMPARED, METRICS, split
from vitsearch.core.plan import plan_text
from vitsearch.core.record import trainings
from vitsearch.core.stage import Stage
from vitsearch.report.conditions import ConditionTable, conditions, utc
from vitsearch.report.progress import Step, progress
from vitsearch.report.reuse import Reuse, reuse
from vitsearch.report.samples import SampleRow, sample_rows
from vitsearch.report.timeline import Lane, lanes
from vitsearch.report.trials import GROUPS, Choice, ShownTrial, knobs, shown_trials
from vitsearch.space import SearchSpace
from vitsearch.storage.addresses import shown_argument
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.ledger.costs import Run, StageRun
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.devices import shown_worker
from vitsearch.study.front import read_front
from vitsearch.study.printed.effects import PrintedObjectiveEffects
from vitsearch.study.results.explanation import EvaluatedPrediction, PredictionCalibration, predictions_of
from vitsearch.study.results.objectives import ObjectiveEffects, objective_effects
from vitsearch.study.study import Study
from vitsearch.study.time_spans import union

DIGITS = 6
"""Significant digits of what was measured; intervals are wider than what is left out."""


@dataclass(frozen=True)
class ReportData:
    """`study_argument` is what a person typed to name the study, for the commands that the page shows, and
    `ship_options` are what `ship` needs beside it: of a fleet, one of its devices. `knee` is the
    number of the balanced trial of the front; `labelled_by` the network whose own fp32 outputs are the labels, None
    where the images have labels; `open_trials` those that a run has not finished; `quality_warnings`
    name the classes that models miss; `samples` are images with what is true of them and what models give."""

    study: str
    study_argument: str
    ship_options: tuple[str, ...]
    made_at_s: float
    emulated: bool
    labelled_by: str | None
    objectives: Mapping[str, str]
    quality: str
    limits: tuple[Bound, ...]
    reference: Mapping[str, float]
    knee: int | None
    open_trials: int
    trained: int
    quality_warnings: tuple[str, ...]
    samples: tuple[SampleRow, ...]
    trials: tuple[ShownTrial, ...]
    chosen: tuple[Mapping[str, Choice], ...]
    steps: tuple[Step, ...]
    effects: tuple[ObjectiveEffects, ...]
    predictions: tuple[EvaluatedPrediction, ...]
    runs: tuple[Run, ...]
    stages: tuple[StageRun, ...]
    lanes: tuple[Lane, ...]
    conditions: tuple[ConditionTable, ...]
    reuse: Reuse

    def to_json(self) -> dict[str, Any]:
        """What the page draws from."""
        return {
            "study": self.study,
            "study_argument": shlex.quote(self.study_argument),
            "ship_options": shlex.join(self.ship_options),
            "made_at": utc(self.made_at_s),
            "version": version("vitsearch"),
            "emulated": self.emulated,
            "objectives": dict(self.objectives),
            "quality": self.quality,
            "metrics": {name: _metric(name) for name in self._shown_metrics()},
            "limits": [asdict(limit) for limit in self.limits],
            "reference": dict(self.reference),
            "knee": self.knee,
            "open_trials": self.open_trials,
            "trained": self.trained,
            "quality_warnings": list(self.quality_warnings),
            "samples": [asdict(row) for row in self.samples],
            "groups": list(GROUPS),
            "trials": self._trials(),
            "steps": _columns([asdict(step) for step in self.steps]),
            "effects": [json_of(PrintedObjectiveEffects.of(effects)) for effects in self.effects],
            "predictions": {
                prediction.trial: {"interval": prediction.interval, "holds": prediction.holds}
                for prediction in self.predictions
            },
            "calibration": list(PredictionCalibration(self.predictions).lines()) if self.predictions else [],
            "timeline": self._timeline(),
            "conditions": [asdict(table) for table in self.conditions],
            "failures": [
                {"trial": trial.number, "plan": plan_text(trial.plan), "reason": trial.reason, **(trial.failure or {})}
                for trial in self.trials
                if trial.outcome == "failed"
            ],
            "reuse": {"shared": [asdict(shared) for shared in self.reuse.shared], "duplicates": self.reuse.duplicates},
        }

    def _shown_metrics(self) -> list[str]:
        """The objectives, then every other metric that some trial has, those of single devices last."""
        seen = {name for trial in self.trials for name, value in trial.metrics.values.items() if value is not None}
        order = list(METRICS)
        of_devices = sorted(
            (name for name in seen if "@" in name), key=lambda name: order.index(name.partition("@")[0])
        )
        shown = [*(name for name in METRICS if name in seen), *of_devices]
        return [*self.objectives, *(name for name in shown if name not in self.objectives)]

    def _trials(self) -> dict[str, Any]:
        trials = self.trials
        predicted = [trial.predicted.get(self.quality) for trial in trials]
        return {
            "number": [trial.number for trial in trials],
            "group": _words(trial.group for trial in trials),
            "outcome": _words(trial.outcome for trial in trials),
            "plan": [plan_text(trial.plan) for trial in trials],
            "reason": _words(trial.reason for trial in trials),
            "notes": _words("; ".join(trial.notes) for trial in trials),
            "broken": _words(", ".join(trial.broken) for trial in trials),
            "shared": _words(self.reuse.sources.get(-1 if t.number is None else t.number, "") for t in trials),
            "rung": [trial.rung for trial in trials],
            "ended_s": [None if trial.ended_s is None else round(trial.ended_s, 1) for trial in trials],
            "predicted": [None if each is None else _short(each.mean) for each in predicted],
            "error": [None if each is None else _short(Z_95 * each.deviation) for each in predicted],
            "knobs": {name: _words(chosen[name] for chosen in self.chosen) for name in self._knobs()},
            "metrics": {name: _figures(name, trials) for name in self._shown_metrics()},
        }

    def _knobs(self) -> list[str]:
        return list(self.chosen[0]) if self.chosen else []

    def _timeline(self) -> dict[str, Any]:
        start_s = min((run.started_at for run in self.runs), default=0.0)
        at_work = union((run.started_at, run.seen_at) for run in self.runs)  # several machines may run it at once
        return {
            "start_s": start_s,
            "runs": len(self.runs),
            "at_work": [[round(start - start_s, 1), round(end - start_s, 1)] for start, end in at_work],
            "lanes": [asdict(lane) | {"idle_share": lane.idle_share} for lane in self.lanes],
            "lane": _words(stage.ran_on for stage in self.stages),
            "stage": _words(Stage(stage.stage).words for stage in self.stages),
            "detail": _words(stage.detail for stage in self.stages),
            "start": [round(stage.started_at - start_s, 1) for stage in self.stages],
            "wall_s": [round(stage.wall_seconds, 2) for stage in self.stages],
            "cpu_s": [round(stage.cpu_seconds, 2) for stage in self.stages],
        }


def read_report(study: Study, ledger: Ledger, study_argument: str) -> ReportData:
    """Everything that is known of a study now. `study_argument` is what a person typed to name it; a password in
    it is masked, because a report is given to others."""
    space, records, attributes = study.space(), study.records(), study.attributes
    front = read_front(study, ledger)
    limits = bounds(space.limits, front.baseline.metrics.values if front.baseline else {})
    results = CurrentFigures(ledger, study.fleets)
    trials = shown_trials(records, study.times(), front, limits, results)
    figures = {trial.number: trial.metrics for trial in trials if trial.number is not None}
    chosen = tuple(knobs(trial.plan) for trial in trials)
    runs, stages = tuple(ledger.costs.runs(study.name)), tuple(ledger.costs.stages(study.name))
    devices = study.devices
    trained = trainings(records)
    reference = attributes.get("reference_point") or {}
    return ReportData(
        study=study.name,
        study_argument=shown_argument(study_argument),
        ship_options=_ship_options(space, study.is_emulated),
        made_at_s=time.time(),
        emulated=study.is_emulated,
        labelled_by=front.labelled_by,
        objectives=dict(space.objectives),
        quality=space.qualities[0],
        limits=limits,
        reference=reference,
        knee=None if front.knee is None else front.points[front.knee].trial,
        open_trials=study.unfinished(),
        trained=len(trained),
        quality_warnings=tuple(front.quality_warnings()),
        samples=tuple(sample_rows(attributes.get("samples"), front)),
        trials=trials,
        chosen=chosen,
        steps=progress(trials, trained, front.objectives, reference, runs, stages),
        effects=objective_effects(front.objectives, records, figures),
        predictions=tuple(predictions_of(space.qualities[0], records, figures)),
        runs=runs,
        stages=tuple(replace(stage, ran_on=shown_worker(stage.ran_on, devices)) for stage in stages),
        lanes=tuple(replace(lane, name=shown_worker(lane.name, devices)) for lane in lanes(runs, stages)),
        conditions=conditions(trials, ledger, attributes, limits, runs),
        reuse=reuse(trials, ledger.made_at(), min((run.started_at for run in runs), default=0.0)),
    )


def _ship_options(space: SearchSpace, emulated: bool) -> tuple[str, ...]:
    device = ("--device", space.fleet_names[0]) if space.fleet_names else ()
    return (*device, *(("--allow-emulated",) if emulated else ()))


def _metric(name: str) -> dict[str, Any]:
    metric, _ = split(name)
    look = {"unit": metric.unit, "direction": metric.direction}
    return look | {"is_quality": metric.is_quality, "is_share": metric.is_share, "is_compared": name in COMPARED}


def _figures(name: str, trials: Sequence[ShownTrial]) -> dict[str, Any]:
    """A metric of all trials: values, both ends of their 95 % intervals, and why there is none."""
    figures = [trial.metrics.figures.get(name) for trial in trials]
    return {
        "value": [figure and _short(figure.value) for figure in figures],
        "low": [figure and _short(figure.low) for figure in figures],
        "high": [figure and _short(figure.high) for figure in figures],
        "reason": _words((figure and figure.reason) or "" for figure in figures),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _words(texts: Iterable[Choice]) -> dict[str, list[Any]]:
    """Texts as an index into those that occur."""
    index_of: dict[Choice, int] = {}
    index = [index_of.setdefault(text, len(index_of)) for text in texts]
    return {"words": list(index_of), "index": index}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as one list for each key."""
    return {
        name: [_short(row[name]) if isinstance(row[name], float) else row[name] for row in rows]
        for name in (rows[0] if rows else ())
    }
