"""When no model meets the limits: what came nearest, and which limit to loosen by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitsearch.core.figures import means
from vitsearch.core.limits import StatedLimit, stated_limits
from vitsearch.core.metrics import is_quality
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Point, read_models, space_on
from vitsearch.study.study import Study

SHOWN = 3
"""Nearest models that are shown."""
DIGITS = 4
"""Significant digits of a loosened limit."""


@dataclass(frozen=True)
class InfeasibleModel:
    """A model that breaks a limit, with what is known of it. `predicted` are the metrics that are, because it was not
    trained."""

    trial: int
    plan: Plan
    values: Mapping[str, float | None]
    predicted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Miss:
    """A limit that a model breaks: the value `seen`, and how far it is off relative to the limit."""

    limit: StatedLimit
    seen: float

    @property
    def by(self) -> float:
        return self.limit.bound.violation(self.seen)

    @property
    def loosened(self) -> float:
        """The value of the key in the space file that lets the model pass, rounded to the loose side."""
        needed = self.limit.needed(self.seen)
        if needed == 0.0:
            return 0.0
        step = 10.0 ** (math.floor(math.log10(abs(needed))) + 1 - DIGITS)
        loose = -step if self.limit.key in ("min", "min_ratio") else step
        values = (float(f"{needed + steps * loose:.{DIGITS}g}") for steps in range(3))
        return next((value for value in values if self.limit.bound_at(value).violation(self.seen) <= 0.0), needed)


@dataclass(frozen=True)
class NearModel:
    """`unjudged` are metrics with a limit whose value is not known."""

    candidate: InfeasibleModel
    misses: tuple[Miss, ...]
    unjudged: tuple[str, ...]

    @property
    def distance(self) -> float:
        """The sum of what the limits are missed by, each relative to its limit."""
        return sum(miss.by for miss in self.misses)


@dataclass(frozen=True)
class Nearest:
    """`models` are the nearest, nearest first. `single` are models that would pass if one limit alone were
    loosened, the least loosening of each limit."""

    models: tuple[NearModel, ...]
    single: tuple[NearModel, ...]

    def advice(self) -> Iterator[str]:
        """One line for each way out: a limit of the space file, its value now, and what lets a model pass."""
        for near in self.single or self.models[:1]:
            texts = [f"{miss.limit.path} from {miss.limit.value:g} to {miss.loosened:g}" for miss in near.misses]
            passes, open_ = "passes", []
            if names := near.candidate.predicted:
                open_ += [f"its {', '.join(names)} {'is' if len(names) == 1 else 'are'} predicted, it was not trained"]
            if near.unjudged:
                open_ += [f"its {', '.join(near.unjudged)} is not known yet"]
            if open_:
                passes = f"may pass; {'; '.join(open_)}"
            yield f"loosen {' and '.join(texts)}: trial {near.candidate.trial} {passes}"


def nearest(candidates: Iterable[InfeasibleModel], limits: Sequence[StatedLimit]) -> Nearest:
    """Rank models that break limits by how far they are off. Those of which a limit cannot be judged come after the
    others at the same distance."""
    ranked = [near for candidate in candidates if (near := _judged(candidate, limits)).misses]
    ranked.sort(key=lambda near: (near.distance, len(near.unjudged), bool(near.candidate.predicted)))
    single: dict[str, NearModel] = {}
    for near in ranked:
        if len(near.misses) == 1:
            single.setdefault(near.misses[0].limit.path, near)
    return Nearest(tuple(ranked[:SHOWN]), tuple(single.values()))


def _judged(candidate: InfeasibleModel, limits: Sequence[StatedLimit]) -> NearModel:
    misses, unjudged = [], []
    for limit in limits:
        seen = candidate.values.get(limit.bound.metric)
        if seen is None:
            unjudged.append(limit.bound.metric)
        elif limit.bound.violation(seen) > 0.0:
            misses.append(Miss(limit, seen))
    return NearModel(candidate, tuple(misses), tuple(dict.fromkeys(unjudged)))


def read_nearest(study: Study, ledger: Ledger, device: str | None = None) -> Nearest:
    """What came nearest in a study, among its models and the plans that were only screened; on a target of `vitsearch
    retarget`, among the models that were measured there."""
    models = read_models(study, ledger, device)
    baseline = models.baseline.metrics.values if models.baseline else {}
    points = {point.trial: point for point in (*models.points, *models.others)}
    is_own = device in (None, study.space().device_name)
    candidates = [
        _candidate(number, record, points.get(number))
        for number, record in study.records().items()
        if record.duplicate_of is None and record.plan is not None and (is_own or number in points)
    ]
    return nearest(candidates, stated_limits(space_on(study, device).limits, baseline))


def _candidate(number: int, record: Record, confirmed: Point | None) -> InfeasibleModel:
    if confirmed is not None:
        return InfeasibleModel(number, confirmed.plan, confirmed.metrics.values)
    predicted = {} if record.proxy is None else means(record.proxy.predicted)
    evaluated = {name: value for name, value in record.metrics.values.items() if not is_quality(name)}
    return InfeasibleModel(number, record.plan, {**evaluated, **predicted}, tuple(predicted))


def near_text(near: NearModel) -> str:
    """A model and what it misses, in one line."""
    misses = ", ".join(_missed(miss, near.candidate) for miss in near.misses)
    return f"trial {near.candidate.trial}: {plan_text(near.candidate.plan)}: {misses}"


def _missed(miss: Miss, model: InfeasibleModel) -> str:
    bound = miss.limit.bound
    predicted = "predicted " if bound.metric in model.predicted else ""
    return f"{predicted}{bound.metric} {bound.shown(miss.seen)} ({bound.sense} {bound.value:.6g} is asked)"
