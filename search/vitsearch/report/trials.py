"""Every trial of a study as the report shows it: its plan, its figures now, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vitsearch.core.figures import Estimates, Metrics
from vitsearch.core.limits import Bound, constraints
from vitsearch.core.metrics import METRICS
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.front import Front, Point
from vitsearch.study.knob_values import SHAPE, knob_values

Choice = str | float
NONE = "none"
BASELINE, FRONT, NEAR, CONFIRMED, OVER_LIMIT, NOT_TRAINED, NOT_MEASURED, FAILED = GROUPS = (
    "baseline",
    "front",
    "near the front",
    "dominated",
    "over a limit",
    "not trained",
    "not measured",
    "failed",
)
"""What a trial is in the figures. `near the front`: dominated only within the intervals of its costs. `not trained`
has no accuracy of its own, perhaps a predicted one. `not measured` lacks an objective, or all of the device's."""


@dataclass(frozen=True)
class ShownTrial:
    """A trial, or the baseline, whose `number` is None. `broken` are the limits that it does not keep; `notes`
    what to know before its figures are believed; `started_s` and `ended_s` are seconds since 1970."""

    number: int | None
    plan: Plan
    metrics: Metrics
    group: str
    outcome: str
    reason: str = ""
    keys: Keys | None = None
    rung: int = 0
    predicted: Estimates = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failure: Mapping[str, str] | None = None
    duplicate_of: int | None = None
    started_s: float | None = None
    ended_s: float | None = None

    @property
    def is_model(self) -> bool:
        """Whether it could be shipped: it was exported and evaluated, and keeps the limits. A duplicate is no further
        model."""
        return self.duplicate_of is None and self.group in (FRONT, NEAR, CONFIRMED)


def shown_trials(
    records: Mapping[int, Record],
    times: Mapping[int, tuple[float, float]],
    front: Front,
    limits: Sequence[Bound],
    results: CurrentFigures,
) -> tuple[ShownTrial, ...]:
    """The baseline, if it is known, and all finished trials by number."""
    points = {point.trial: point for point in front.points}
    near = {point.trial for point in front.near}
    shown = [] if front.baseline is None else [_shown_baseline(front.baseline)]
    for number, record in records.items():
        point = points.get(number)
        metrics, flags = (point.metrics, point.flags) if point else results.now(record)
        trial = ShownTrial(
            number,
            record.plan,
            metrics,
            "",
            record.shown_outcome,
            record.reason,
            record.keys,
            record.rung,
            {} if record.proxy is None else record.proxy.predicted,
            tuple(name for name, over in constraints(limits, metrics.values).items() if over > 0),
            tuple(_notes(metrics, flags, point)),
            record.failure,
            record.duplicate_of,
            *times.get(number, (None, None)),
        )
        group = FRONT if point else NEAR if number in near else _group(record, trial, front.objectives)
        shown.append(replace(trial, group=group))
    return tuple(shown)


def _group(record: Record, trial: ShownTrial, objectives: Sequence[str]) -> str:
    if record.outcome == "failed":
        return FAILED
    if not any(trial.metrics.value(name) is not None for name, metric in METRICS.items() if metric.on_device):
        return NOT_MEASURED
    if trial.broken or record.outcome == "infeasible":
        return OVER_LIMIT
    if record.outcome != "confirmed":
        return NOT_TRAINED
    return CONFIRMED if loss(objectives, trial.metrics.values) else NOT_MEASURED


def _shown_baseline(point: Point) -> ShownTrial:
    notes = tuple(_notes(point.metrics, point.flags, point))
    return ShownTrial(None, point.plan, point.metrics, BASELINE, BASELINE, keys=point.keys, notes=notes)


def _notes(metrics: Metrics, flags: Sequence[str], point: Point | None) -> Iterator[str]:
    yield from (f"{name}: {note}" for name, note in metrics.notes.items())
    if flags:
        yield f"measured with flags: {', '.join(flags)}"
    if point is None:
        return
    yield from point.quality_warnings
    yield from point.warnings
    if there := point.on_device:
        low, high = there.interval
        yield f"{there.metric} on the device itself: {there.value:.3f} ({low:.3f} to {high:.3f}) on {there.n} images"


def knobs(plan: Plan) -> dict[str, Choice]:
    """What was chosen for a plan, by the names of a space file. A value that a plan does not have is `none`, and so
    is the scope of a plan that prunes nothing."""
    values = knob_values(plan)
    values["resolution"] = values.pop(SHAPE) or values["resolution"]  # of images that are no squares, the shape
    chosen = {name: NONE if value is None or value == "" else value for name, value in values.items()}
    return chosen | {"pruning_scope": NONE} if plan.compression.is_identity else chosen
