"""What a search of a space will cost, before it starts: the models in it, limits that no model can meet, time."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsearch.core.limits import Bound, bounds
from vitsearch.core.plan import Plan
from vitsearch.core.precisions import LINEAR, lowers_slowly
from vitsearch.core.stage import Stage
from vitsearch.core.targets import TARGETS
from vitsearch.devices.cores import processors
from vitsearch.devices.protocols import Phases, settled_by_screens
from vitsearch.search.check.space import Valid
from vitsearch.search.check.stage_seconds import CONFIRMING, SCREENING, stage_seconds, wall_seconds
from vitsearch.search.check.unpruned_costs import Screening, same_model, screening_of
from vitsearch.search.check.user_code import caller
from vitsearch.search.plan_space import plan_space
from vitsearch.search.resources import trainers_here
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace
from vitsearch.tasks import CLASSIFICATION
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.conditions.processor import is_virtual

if TYPE_CHECKING:
    from vitsearch.workers.space_costs import Counts, SpaceModels

COUNTING_S, TIMING_S = 4.0, 4.0
"""Most seconds for counting random models, and for timing training steps. The largest and the smallest model of each
backbone are counted in any case."""
CLASSES = 10
"""Of the models that are counted: the width of the classifier matters little. A network may be fixed to another."""
REMEASURED, SCREENED_PER_TRAINING, EXPORTED_PER_TRAINING = 14, 6, 2
"""In five runs: the models of the front and near it that are measured again (12 to 17); for each training that the file
allows, the plans that were screened (3.4 to 5.8) and exported for all runtimes (1.5 to 2.3). A search screens on while
plans need no training, so `search.candidates` is the least."""
PRUNED_SHARE = 0.25
"""Of the time that training the unpruned models takes, at least: plans that are trained are pruned, and mostly of the
faster backbones."""
BYTES = {"fp16": 2.0, "w8a16": 1.0, "palette4": 0.5}
"""Of a parameter, at least; 4 for fp32, and for bf16, whose files keep fp32."""


@dataclass(frozen=True)
class ValueRange:
    """The smallest and the largest value that was found."""

    low: float
    """Smallest."""
    high: float
    """Largest."""

    def __str__(self) -> str:
        low, high = _three_digits(self.low), _three_digits(self.high)
        return low if low == high else f"{low} to {high}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Models:
    """Models of a space."""

    counted: int
    """Plans that were counted, the largest and the smallest of each backbone among them."""
    params_m: ValueRange
    """Million parameters."""
    macs_m: ValueRange
    """Million MACs."""
    size_mb: ValueRange
    """MB of the weights: of the model and precision for which it is least, and of those for which it is most."""

    def describe(self) -> str:
        return (
            f"models: {self.params_m} million parameters, {self.macs_m} million MACs, weights of {self.size_mb} MB "
            f"({self.counted} plans counted, the largest and the smallest of each backbone among them)."
        )


@dataclass(frozen=True)
class CountedModels:
    """Models of a space. `unmeetable` has a line for each limit that none of them can meet."""

    models: Models
    screening: Screening
    unmeetable: tuple[str, ...]

    def describe(self) -> str:
        """Some lines, beside the table of backbones."""
        count, wall = len(self.screening.backbones), _duration(self.screening.wall_s)
        backbones = f"{count} backbones" if count > 1 else "backbone"
        screening = (
            f"screening: about {wall} in all for {self.screening.files} files of the unpruned {backbones}, as workers "
            f"write files while the device measures ({self.screening.basis})."
        )
        return "\n".join([self.models.describe(), screening, *self.unmeetable])

    def with_time(self, time: Time | None) -> Costs:
        return Costs(self.models, self.screening, self.unmeetable, time)


@dataclass(frozen=True)
class Time:
    """What a search takes."""

    trainings: int
    """Trainings that the file allows."""
    screened: ValueRange
    """Screening measurements."""
    trainers: int
    """The number that a run on this machine has."""
    trainers_s: ValueRange
    """Seconds of all trainers together."""
    device_s: ValueRange
    """Seconds of the device."""
    wall_s: ValueRange
    """Seconds of the whole run with these trainers."""
    basis: tuple[str, ...]
    """What the estimate is based on."""

    def describe(self) -> str:
        wall, trained, device = map(_durations, (self.wall_s, self.trainers_s, self.device_s))
        trainers = "one trainer" if self.trainers == 1 else f"{self.trainers} trainers"
        head = f"time: {wall} in all with {trainers}: {trained} of their time, {device} of the device:"
        return "\n".join([head, *(f"  {line}" for line in self.basis)])


@dataclass(frozen=True)
class Costs:
    """What a search of a space costs."""

    models: Models
    """The models of the space."""
    screening: Screening
    """The unpruned models, and how long it takes to screen them."""
    unmeetable: tuple[str, ...]
    """Limits that no model of the space can meet."""
    time: Time | None
    """Null where the file sets a time instead of a number of trainings."""

    def describe(self) -> str:
        counted = CountedModels(self.models, self.screening, self.unmeetable)
        return "\n".join([counted.describe(), *([self.time.describe()] if self.time is not None else [])])


def space_costs(valid: Valid) -> Costs:
    """Count models of the space and time a training step of each backbone, which takes some seconds."""
    counted = count_models(valid)
    return counted.with_time(estimate_time(valid))


def count_models(valid: Valid) -> CountedModels:
    """Count the largest, the smallest and random models of the space."""
    space, plans = valid.space, plan_space(valid.space)
    counted = dict(_counted(plans, valid.data.channels))
    counts = counted.values()
    sizes = [_size_mb(model, precision, space) for model in counts for precision in space.space.quantization]
    models = Models(
        len(counted),
        _range(model.params_m for model in counts),
        _range(model.macs_m for model in counts),
        _range(sizes),
    )

    def counts_of(plan: Plan) -> Counts:
        same = same_model(counted, plan)
        return _count(plan, space, valid.data.channels) if same is None else counted[same]

    screening = screening_of(space, plans, counts_of)
    return CountedModels(models, screening, tuple(_unmeetable(space, plans, models, valid.data.channels)))


def _count(plan: Plan, space: SearchSpace, channels: int) -> Counts:
    from vitsearch.workers.space_costs import count  # torch: only for those who count

    return caller(plan.backbone, space.networks, count)(plan, _models_of(plan, space, channels))


def _models_of(plan: Plan, space: SearchSpace, channels: int) -> SpaceModels:
    from vitsearch.workers.space_costs import SpaceModels  # torch: only for those who count

    facts = space.network_facts.get(plan.backbone)
    classes = CLASSES if facts is None else facts.classes or CLASSES
    return SpaceModels(classes, channels, space.purpose.gives_map, space.networks)


def _range(values: Iterable[float]) -> ValueRange:
    numbers = list(values)
    return ValueRange(min(numbers), max(numbers))


def _size_mb(counts: Counts, precision: str, space: SearchSpace) -> float:
    """MB of the weights in a precision. In int8 are the linear layers, and all layers where the space allows it."""
    if not precision.startswith("int8"):
        return counts.params_m * BYTES.get(precision, 4.0)
    only_linear = tuple(space.space.quantized_ops) == (LINEAR,)
    int8 = counts.linear_m if only_linear else counts.params_m
    return int8 + 4.0 * (counts.params_m - int8)


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


def _counted(plans: PlanSpace, channels: int) -> Iterator[tuple[Plan, Counts]]:
    """Plans with their parameters and MACs, in millions: the extremes, then random ones for some seconds."""
    for backbone in plans.backbones():
        for is_largest in (True, False):
            plan = plans.plan(_Extreme(backbone, is_largest))
            yield plan, _count(plan, plans.space, channels)
    rng, begin = random.Random(0), time.perf_counter()
    while time.perf_counter() - begin < COUNTING_S:
        plan = plans.random(rng)
        yield plan, _count(plan, plans.space, channels)


def _unmeetable(space: SearchSpace, plans: PlanSpace, models: Models, channels: int) -> Iterator[str]:
    """A line for each upper limit below the smallest model."""
    limited = [name for name in ("params_m", "macs_m", "size_mb") if name in space.limits]
    if not limited:
        return
    counts = _count(plans.baseline(), space, channels)
    baseline = {"params_m": counts.params_m, "macs_m": counts.macs_m, "size_mb": _size_mb(counts, "fp32", space)}
    smallest = {"params_m": models.params_m.low, "macs_m": models.macs_m.low, "size_mb": models.size_mb.low}
    for bound in bounds({name: space.limits[name] for name in limited}, baseline):
        if bound.sense == "<=" and smallest[bound.metric] > bound.value:
            yield _unmet(bound, smallest[bound.metric])


def _unmet(bound: Bound, least: float) -> str:
    return (
        f"limits.{bound.metric}: no model can meet {bound.metric} {bound.sense} {bound.value:.4g}: "
        f"the smallest of the space has {least:.3g}"
    )


def estimate_time(valid: Valid) -> Time | None:
    """An estimate for the whole search, for which training steps are timed; None where the file sets its time instead
    of a number of trainings."""
    space, plans = valid.space, plan_space(valid.space)
    wanted = space.search.wanted
    if wanted is None:
        return None
    seconds, source = stage_seconds(space)
    files, unpruned = (count + 1 for count in plans.count_leaders())  # and the baseline
    tried = plans.count_tried()
    threads = min(space.resources.cpus, len(processors()))  # a cluster has more cores than this machine
    per_image = dict(_per_image(plans, valid.data.channels, threads))
    trained, bases = _training(plans, valid, per_image)
    measured = seconds.get(Stage.TRAIN)
    train_s = ValueRange(PRUNED_SHARE * trained, trained) if measured is None else ValueRange(measured, measured)
    few, many = wanted * space.search.candidates, wanted * max(space.search.candidates, SCREENED_PER_TRAINING)
    export_s, candidate_s = seconds[Stage.EXPORT], seconds[Stage.SCREEN] + seconds[Stage.PROXY]
    screen_s = seconds[SCREENING]
    last_s = screen_s if _ends_with_screens(space) else seconds[CONFIRMING] + _phases_s(space)
    exported = files + EXPORTED_PER_TRAINING * wanted
    always = bases + exported * export_s + tried * seconds[Stage.SCREEN]
    trainers = trainers_here(space)
    lowering = _lowering(plans, wanted, ValueRange(few, many))
    work = ValueRange(
        always + wanted * train_s.low + few * candidate_s + lowering.work.low,
        always + wanted * train_s.high + many * candidate_s + lowering.work.high,
    )
    least, most = few + unpruned + tried, many + unpruned + tried
    device = ValueRange(*(count * screen_s + REMEASURED * last_s for count in (least, most)))
    cores = f"{threads} core{'s' if threads > 1 else ''}"
    timed = f"at most: unpruned models, timed here just now on {cores}" if measured is None else source
    basis = [
        f"{wanted} trainings of {_durations(train_s).removeprefix('about ')} ({timed})",
        f"{exported} exports of {export_s:.1f} s and {few} to {many} candidates of {candidate_s:.1f} s ({source})",
        f"{least} to {most} screening measurements of {screen_s:.1f} s and some {REMEASURED} of {last_s:.1f} s "
        f"when the search has ended ({source})",
    ]
    basis += lowering.basis
    if bases:
        basis.insert(1, f"{_duration(bases)} for training the unpruned models on your classes")
    return Time(
        wanted,
        ValueRange(least, most),
        trainers,
        work,
        device,
        ValueRange(wall_seconds(work.low / trainers, device.low), wall_seconds(work.high / trainers, device.high)),
        tuple(basis),
    )


@dataclass(frozen=True)
class _Lowering:
    """CPU-seconds for the files of runtimes that lower slowly, and a line that says so."""

    work: ValueRange
    basis: tuple[str, ...] = ()


def _lowering(plans: PlanSpace, wanted: int, candidates: ValueRange) -> _Lowering:
    """What such files take: of unpruned models, and of trained plans, each once from its starting weights and once
    trained; of all candidates where the space has no other runtime."""
    models = [model for model in plans.unpruned_models() if lowers_slowly(model.runtime)]
    if not models:
        return _Lowering(ValueRange(0.0, 0.0))
    names = list(dict.fromkeys(model.runtime for model in models))
    spans = [span for name in names if (span := TARGETS[name].lowering_cpu_s) is not None]
    if all(lowers_slowly(runtime) for runtime in plans.space.choices_of("backend")):
        files = ValueRange(len(models) + candidates.low, len(models) + candidates.high + wanted)
    else:
        deployments = {(model.runtime, model.provider, model.precision) for model in models}
        files = ValueRange(len(models), len(models) + 2 * wanted * len(deployments))
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    named = " and ".join(names)
    line = f"{files.low:.0f} to {files.high:.0f} files for {named}, each {low} to {high} CPU-seconds to lower"
    return _Lowering(ValueRange(files.low * low, files.high * high), (line,))


def _phases_s(space: SearchSpace) -> float:
    """The seconds that soak, power and throughput add to a confirmation."""
    phases = Phases.of(_metric_names(space), space.measure)
    return phases.throughput_s + phases.soak_s + phases.power_s + 2 * phases.idle_s


def _ends_with_screens(space: SearchSpace) -> bool:
    """Whether the models that are shown in the end are measured by screening measurements, beside references."""
    is_here = not space.devices and is_virtual(THIS_MACHINE)
    return is_here and settled_by_screens(_metric_names(space), space.measure)


def _metric_names(space: SearchSpace) -> list[str]:
    return [*space.objectives, *space.limits]


def _training(plans: PlanSpace, valid: Valid, per_image: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of one training, as the mean over backbones, and of training all unpruned models whose classifier is new:
    those with weights of the hub, random ones, and ours for another task."""
    space, trained, bases = valid.space, [], 0.0
    base = space.task.base.recipe(space.search.seed)
    for backbone, seconds in per_image.items():
        trained.append(seconds * space.recipe(backbone).images)
        weights = space.start_of(backbone).weights
        if weights in ("hub", "none") or (weights == "builtin" and space.purpose != CLASSIFICATION):
            bases += seconds * (base.images_per_epoch or valid.data.images) * max(base.rungs)
    mean = statistics.fmean(trained) if trained else 0.0
    left = sum(not space.is_file(backbone) for backbone in plans.backbones()) - len(per_image)
    return mean, bases * (1 + left / len(per_image)) if per_image else bases


def _per_image(plans: PlanSpace, channels: int, threads: int) -> Iterator[tuple[str, float]]:
    """Seconds of training for each image, by backbone, for as many backbones as a few seconds allow."""
    from vitsearch.workers.space_costs import training_seconds_per_image  # torch: only for those who time

    begin = time.perf_counter()
    for backbone in plans.backbones():
        if plans.space.is_file(backbone):
            continue
        plan = plans.plan(_Extreme(backbone, is_largest=True))
        timed = caller(backbone, plans.space.networks, training_seconds_per_image)
        yield backbone, timed(plan, _models_of(plan, plans.space, channels), threads)
        if time.perf_counter() - begin > TIMING_S:
            return


def _duration(seconds: float) -> str:
    """`12 min`, with two digits."""
    size, unit = _unit(seconds)
    return f"{seconds / size:.2g} {unit}"


def _durations(seconds: ValueRange) -> str:
    """`about 5.1 to 9.4 min`."""
    size, unit = _unit(seconds.high)
    low, high = f"{seconds.low / size:.2g}", f"{seconds.high / size:.2g}"
    return f"about {low} {unit}" if low == high else f"about {low} to {high} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((unit for unit in ((3600.0, "h"), (60.0, "min")) if seconds >= 1.5 * unit[0]), (1.0, "s"))
