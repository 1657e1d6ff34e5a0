"""What a search of a space will cost, before it starts: the models in it, limits that no model can meet, time."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.limits import Bound, bounds
from vitsearch.core.plan import Plan
from vitsearch.core.stage import Stage
from vitsearch.devices.protocols import Phases
from vitsearch.search.check.space import Valid
from vitsearch.search.plans import plan_space
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger, sqlite_file
from vitsearch.study.sampling import PlanSpace
from vitsearch_evaluators.wire.protocol import CONFIRM, SCREEN

COUNTING_S, TIMING_S = 4.0, 4.0
"""Most seconds for counting random models, and for timing training steps. The largest and the smallest model of each
backbone are counted in any case."""
CLASSES = 10
"""Of the models that are counted: the width of the classifier matters little."""
TYPICAL_S: Mapping[str, float] = {
    Stage.SCREEN: 1.6,
    Stage.PROXY: 1.4,
    Stage.EXPORT: 6.6,
    f"{Stage.MEASURE} {SCREEN.id}": 8.0,
    f"{Stage.MEASURE} {CONFIRM.id}": 14.7,
}
"""Mean wall seconds of each stage of the quickstart (28 pixels) on 2 cores, in a run of 2026-11-27."""
CONFIRMED, SCREENED_PER_TRAINING = 12, 11
"""In that run: the confirmations of models of the front and near it, and the plans that were screened for each training
that the file allows. A search screens on while plans need no training, so ``search.candidates`` is the least."""
BYTES = {"fp16": 2.0, "bf16": 2.0, "palette4": 0.5}
"""Of a parameter, at least; 1 for the precisions of int8, 4 for fp32."""


@dataclass(frozen=True)
class Span:
    """The smallest and the largest value that was found."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = _three_digits(self.low), _three_digits(self.high)
        return low if low == high else f"{low} to {high}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Models:
    """``counted`` models, the largest and the smallest of each backbone among them. ``size_mb`` is that of the weights
    alone: at least in the smallest precision of the space, at most in the largest."""

    counted: int
    params_m: Span
    macs_m: Span
    size_mb: Span


@dataclass(frozen=True)
class Time:
    """Seconds of one worker and of the device, the number of screening measurements, and what they are based on."""

    trainings: int
    screened: Span
    worker_s: Span
    device_s: Span
    basis: tuple[str, ...]


@dataclass(frozen=True)
class Costs:
    """``unmeetable`` has a line for each limit that no model of the space can meet."""

    models: Models
    unmeetable: tuple[str, ...]
    time: Time | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        found = self.models
        lines = [
            f"models: {found.params_m} million parameters, {found.macs_m} million MACs, weights of {found.size_mb} MB "
            f"({found.counted} plans counted, the largest and the smallest of each backbone among them).",
            *self.unmeetable,
        ]
        if self.time is not None:
            worker, device = _durations(self.time.worker_s), _durations(self.time.device_s)
            lines.append(f"time: {worker} of one worker, and meanwhile {device} of the device:")
            lines += [f"  {line}" for line in self.time.basis]
        return "\n".join(lines)


def space_costs(valid: Valid) -> Costs:
    """Count models of the space and time a training step of each backbone, which takes some seconds."""
    space, plans = valid.space, plan_space(valid.space)
    counted = dict(_counted(plans, valid.data.channels))
    params = Span(min(p for p, _ in counted.values()), max(p for p, _ in counted.values()))
    macs = Span(min(m for _, m in counted.values()), max(m for _, m in counted.values()))
    widths = [_bytes(precision) for precision in space.space.quantization]
    models = Models(len(counted), params, macs, Span(params.low * min(widths), params.high * max(widths)))
    return Costs(models, tuple(_unmeetable(space, plans, models, valid.data.channels)), _time(valid, plans))


def _bytes(precision: str) -> float:
    return 1.0 if precision.startswith("int8") else BYTES.get(precision, 4.0)


@dataclass(frozen=True)
class _Extreme:
    """Answers with the largest or the smallest model of a backbone: resolution and ratios at one end of their choices,
    the first word of each list."""

    backbone: str
    is_largest: bool

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return self.backbone if name == "backbone" else choices[0]

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        grows = name.startswith(("resolution", "window_size"))
        return choices[-1] if grows == self.is_largest else choices[0]


def _counted(plans: PlanSpace, channels: int) -> Iterator[tuple[Plan, tuple[float, float]]]:
    """Plans with their parameters and MACs, in millions: the extremes, then random ones for some seconds."""
    from vitsearch.workers.space_costs import count  # torch: only for those who count

    for backbone in plans.backbones():
        for is_largest in (True, False):
            plan = plans.plan(_Extreme(backbone, is_largest))
            yield plan, count(plan, CLASSES, channels)
    rng, begin = random.Random(0), time.perf_counter()
    while time.perf_counter() - begin < COUNTING_S:
        plan = plans.random(rng)
        yield plan, count(plan, CLASSES, channels)


def _unmeetable(space: SearchSpace, plans: PlanSpace, models: Models, channels: int) -> Iterator[str]:
    """A line for each upper limit below the smallest model."""
    from vitsearch.workers.space_costs import count  # torch: only for those who count

    asked = [name for name in ("params_m", "macs_m", "size_mb") if name in space.limits]
    if not asked:
        return
    params_m, macs_m = count(plans.baseline(), CLASSES, channels)
    baseline = {"params_m": params_m, "macs_m": macs_m, "size_mb": params_m * _bytes("fp32")}
    smallest = {"params_m": models.params_m.low, "macs_m": models.macs_m.low, "size_mb": models.size_mb.low}
    for bound in bounds({name: space.limits[name] for name in asked}, baseline):
        if bound.sense == "<=" and smallest[bound.metric] > bound.value:
            yield _unmet(bound, smallest[bound.metric])


def _unmet(bound: Bound, least: float) -> str:
    return (
        f"limits.{bound.metric}: no model can meet {bound.metric} {bound.sense} {bound.value:.4g}: "
        f"the smallest of the space has {least:.3g}"
    )


def _time(valid: Valid, plans: PlanSpace) -> Time | None:
    """An estimate for the whole search; None where the file sets its time instead of a number of trainings."""
    space = valid.space
    wanted = space.search.wanted
    if wanted is None:
        return None
    seconds, source = _stage_seconds(space)
    unpruned, tried = len(list(plans.unpruned_models())) + 1, plans.count_tried()
    per_image = dict(_per_image(plans, valid.data.channels, space.resources.cpus))
    trained, bases = _training(plans, valid, per_image)
    measured = seconds.get(Stage.TRAIN)
    train_s = trained if measured is None else measured
    few, many = wanted * space.search.candidates, wanted * max(space.search.candidates, SCREENED_PER_TRAINING)
    export_s, candidate_s = seconds[Stage.EXPORT], seconds[Stage.SCREEN] + seconds[Stage.PROXY]
    screen_s = seconds[f"{Stage.MEASURE} {SCREEN.id}"]
    confirm_s = seconds[f"{Stage.MEASURE} {CONFIRM.id}"] + _phases_s(space)
    always = wanted * train_s + bases + (wanted + unpruned) * export_s + tried * seconds[Stage.SCREEN]
    least, most = few + unpruned + tried, many + unpruned + tried
    cores = f"{space.resources.cpus} core{'s' if space.resources.cpus > 1 else ''}"
    timed = f"unpruned models timed here just now on {cores}; pruned ones take less" if measured is None else source
    basis = [
        f"{wanted} trainings of {_duration(train_s)} ({timed})",
        f"{wanted + unpruned} exports of {export_s:.1f} s and {few} to {many} candidates of {candidate_s:.1f} s "
        f"({source})",
        f"{least} to {most} screening measurements of {screen_s:.1f} s and some {CONFIRMED} "
        f"confirmations of {confirm_s:.1f} s ({source})",
    ]
    if bases:
        basis.insert(1, f"{_duration(bases)} for training the unpruned models on your classes")
    return Time(
        wanted,
        Span(least, most),
        Span(always + few * candidate_s, always + many * candidate_s),
        Span(*(count * screen_s + CONFIRMED * confirm_s for count in (least, most))),
        tuple(basis),
    )


def _phases_s(space: SearchSpace) -> float:
    """The seconds that soak, power and throughput add to a confirmation."""
    phases = Phases.of([*space.objectives, *space.limits], space.measure)
    return phases.throughput_s + phases.soak_s + phases.power_s + 2 * phases.idle_s


def _training(plans: PlanSpace, valid: Valid, per_image: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of one training, as the mean over backbones, and of training all unpruned models whose classifier is new:
    those with weights of the hub."""
    space, trained, bases = valid.space, [], 0.0
    base = space.task.base.recipe(space.search.seed)
    for backbone, seconds in per_image.items():
        recipe = space.recipe(backbone)
        trained.append(seconds * recipe.images_per_epoch * max(recipe.rungs))
        if space.weights_of(backbone) == "hub":
            bases += seconds * (base.images_per_epoch or valid.data.images) * max(base.rungs)
    mean = statistics.fmean(trained) if trained else 0.0
    left = len(plans.backbones()) - len(per_image)
    return mean, bases * (1 + left / len(per_image)) if per_image else bases


def _per_image(plans: PlanSpace, channels: int, threads: int) -> Iterator[tuple[str, float]]:
    """Seconds of training for each image, by backbone, for as many backbones as a few seconds allow."""
    from vitsearch.workers.space_costs import training_seconds_per_image  # torch: only for those who time

    begin = time.perf_counter()
    for backbone in plans.backbones():
        plan = plans.plan(_Extreme(backbone, is_largest=True))
        yield backbone, training_seconds_per_image(plan, CLASSES, channels, threads)
        if time.perf_counter() - begin > TIMING_S:
            return


def _stage_seconds(space: SearchSpace) -> tuple[Mapping[str, float], str]:
    """Mean seconds of each stage, and where they are from: the database of the study if it has them."""
    file = sqlite_file(space.storage)
    typical = "means of the quickstart on 2 cores; larger models take longer"
    if file is None or not file.exists():
        return TYPICAL_S, typical
    ledger = Ledger.open(space.storage)
    try:
        found = ledger.costs.means()
    finally:
        ledger.close()
    if not TYPICAL_S.keys() <= found.keys():
        return TYPICAL_S, typical
    return found, f"means of what is in {file}"


def _duration(seconds: float) -> str:
    """``12 min``, with two digits."""
    size, unit = _unit(seconds)
    return f"{seconds / size:.2g} {unit}"


def _durations(span: Span) -> str:
    """``about 5.1 to 9.4 min``."""
    size, unit = _unit(span.high)
    low, high = f"{span.low / size:.2g}", f"{span.high / size:.2g}"
    return f"about {low} {unit}" if low == high else f"about {low} to {high} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((one for one in ((3600.0, "h"), (60.0, "min")) if seconds >= 1.5 * one[0]), (1.0, "s"))
