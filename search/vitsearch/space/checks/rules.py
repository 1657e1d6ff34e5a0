"""Rules about values of a space file that must fit together.

The parameters of a rule name the parts of the file that it reads (see `.valid_parts.READS`). A rule is skipped
while one of its parts is itself invalid, so that a mistake in one section hides no problem of another.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vitsearch.core.data_sources import has_masks, kinds_with, missing_root, unfitting_keys
from vitsearch.core.fleet import FLEET
from vitsearch.core.image_size import ImageSize
from vitsearch.core.metrics import METRICS, NEEDS
from vitsearch.errors import VitsearchError
from vitsearch.space.knobs import AnyBackbone, Baseline
from vitsearch.space.networks import OnnxSection
from vitsearch.space.nodes import Path
from vitsearch.space.problems import Problem, nearest_or_all
from vitsearch.space.section_base import StartingWeights
from vitsearch.space.sections import FleetWeights, LimitSection, Measure
from vitsearch.space.task import AugmentationSection, BaseSection, Data, FineTune, TeacherSection
from vitsearch.tasks import Task, TaskSource, why_whole_images

Problems = Iterator[Problem]
Names = tuple[str, ...]


def find_problems(parts: Mapping[str, Any]) -> list[Problem]:
    """The problems that all rules find in `parts`."""
    problems: list[Problem] = []
    for rule in RULES:
        names = inspect.signature(rule).parameters
        if names.keys() <= parts.keys():
            problems += rule(**{name: parts[name] for name in names})
    return problems


def objectives_are_metrics(
    task: Task, objectives: dict[str, str], objective_names: Names, device_names: Names, fleet_names: Names
) -> Problems:
    for name in objective_names:
        wrong = _metric_problem(name, _metrics_of(task), device_names, fleet_names)
        if wrong is None and name in objectives:
            right = METRICS[name.partition("@")[0]].direction
            if objectives[name] != right:
                wrong = f"{objectives[name]!r} is the wrong direction for this metric; allowed: {right}"
        if wrong is not None:
            yield Problem(("objectives", name), wrong)


def _metrics_of(task: Task) -> Names:
    """The metrics of a study: those of its task, and all costs."""
    return (
        *(metric.name for metric in task.metrics),
        *(name for name, metric in METRICS.items() if not metric.is_quality),
    )


def objectives_are_two(objective_names: Names) -> Problems:
    if len(objective_names) < 2:
        yield Problem(("objectives",), f"must have two or more metrics, has {len(objective_names)}")


def limits_fit_their_metric(
    task: Task, limits: dict[str, LimitSection], device_names: Names, fleet_names: Names
) -> Problems:
    for name, limit in limits.items():
        wrong = _metric_problem(name, _metrics_of(task), device_names, fleet_names)
        if wrong is not None:
            yield Problem(("limits", name), wrong)
        else:
            yield from _limit_problems(name, limit)


def _limit_problems(name: str, limit: LimitSection) -> Problems:
    words = _limit_words(name.partition("@")[0])
    allowed = f"allowed: {', '.join(words)}"
    bounds = [word for word in LimitSection.model_fields if getattr(limit, word) is not None]
    if not bounds:
        yield Problem(("limits", name), f"has no bound; {allowed}")
    for word in bounds:
        if word not in words:
            yield Problem(("limits", name, word), f"{word!r} cannot limit {name}; {allowed}")
    is_share = METRICS[name.partition("@")[0]].is_share
    if is_share and limit.min is not None and not 0 <= limit.min <= 1:
        share = f"{name} is a share, write {limit.min / 100:g}" if 1 < limit.min <= 100 else "allowed: 0 to 1"
        yield Problem(("limits", name, "min"), f"{limit.min:g} is {'above 1' if limit.min > 1 else 'below 0'}; {share}")

    if is_share and limit.max_drop is not None and limit.max_drop > 1:
        share = f"{name} is a share, write {limit.max_drop / 100:g}" if limit.max_drop <= 100 else "allowed: 0 to 1"
        yield Problem(("limits", name, "max_drop"), f"{limit.max_drop:g} is above 1; {share}")


def _limit_words(metric: str) -> Names:
    if METRICS[metric].is_quality:
        return ("min" if METRICS[metric].direction == "maximize" else "max", "max_drop")
    return ("min", "min_ratio") if METRICS[metric].direction == "maximize" else ("max", "max_ratio")


def _metric_problem(name: str, allowed: Names, device_names: Names, fleet_names: Names) -> str | None:
    metric, at, device = name.partition("@")
    if metric not in METRICS:
        return f"unknown metric {metric!r}{nearest_or_all(metric, allowed)}"
    if at and not METRICS[metric].on_device:
        return f"{metric} is not measured on a device; write {metric}"
    if at and device not in device_names:
        nearest = nearest_or_all(device, device_names) if device_names else "; the file has no devices"
        return f"unknown device {device!r}{nearest}"
    if at and not fleet_names:
        return f"the file has one device; write {metric}"
    return None


def phases_have_a_metric(measure: Measure, objective_names: Names, limits: dict[str, LimitSection]) -> Problems:
    names = {name.partition("@")[0] for name in (*objective_names, *limits)}
    for key, metrics in NEEDS.items():
        field = f"{key}_s"
        if getattr(measure, field) != Measure.model_fields[field].default and not names & set(metrics):
            yield Problem(("measure", key), f"has no effect without {' or '.join(metrics)} in objectives or limits")


def threads_are_measured(measure: Measure, threads: tuple[int, ...]) -> Problems:
    """A `measure.threads` that the file gives is the most that a run may have."""
    if "threads" in measure.model_fields_set:
        for index, value in enumerate(threads):
            if value > measure.threads:
                text = f"{value} is above measure.threads {measure.threads}; leave measure.threads out, or raise it"
                yield Problem(("space", "threads", index), text)


def streams_have_a_metric(
    streams: tuple[int, ...], objective_names: Names, limits: dict[str, LimitSection]
) -> Problems:
    needed = NEEDS["throughput"]
    if streams and not {name.partition("@")[0] for name in (*objective_names, *limits)} & set(needed):
        yield Problem(("space", "streams"), f"has no effect without {' or '.join(needed)} in objectives or limits")


def devices_have_names(device_names: Names) -> Problems:
    for name in device_names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            yield Problem(("devices", name), "is not a valid device name; allowed: a-z, 0-9, - and _")
        elif name == FLEET:
            yield Problem(("devices", name), "is what all devices together are called; give it another name")


def fleet_fits_its_devices(fleet: str | FleetWeights, fleet_names: Names, written: Names) -> Problems:
    if "fleet" in written and not fleet_names:
        yield Problem(("fleet",), "has no effect without several devices")
    elif isinstance(fleet, FleetWeights):
        for name in (name for name in fleet.weights if name not in fleet_names):
            yield Problem(("fleet", "weights", name), f"unknown device {name!r}{nearest_or_all(name, fleet_names)}")
        if missing := [name for name in fleet_names if name not in fleet.weights]:
            yield Problem(("fleet", "weights"), f"has no weight for {', '.join(missing)}")


def data_keys_fit_the_source(data: Data) -> Problems:
    if data.root is None and (message := missing_root(data.source)):
        yield Problem(("task", "data", "root"), message)
    for key in unfitting_keys(data.source):
        if getattr(data, key) != Data.model_fields[key].default:
            others = ", ".join(kinds_with(key))
            yield Problem(("task", "data", key), f"has no effect with source {data.source!r}, only with {others}")


def kind_is_a_task(task_source: TaskSource) -> Problems:
    try:
        task_source.find()
    except VitsearchError as error:
        yield Problem(("task", "kind"), str(error))


def qualities_are_those_of_the_task(task: Task, objective_names: Names, limits: dict[str, LimitSection]) -> Problems:
    metrics = [metric.name for metric in task.metrics]
    for section, names in (("objectives", objective_names), ("limits", tuple(limits))):
        for name in names:
            if name in METRICS and METRICS[name].is_quality and name not in metrics:
                yield Problem(
                    (section, name), f"{name} is not a metric of task {task.kind}; it has {', '.join(metrics)}"
                )


def only_one_file_labels_images(
    task: Task, data: Data, backbones: tuple[AnyBackbone, ...], baseline: Baseline
) -> Problems:
    """Without labels there is no accuracy by which networks could be compared."""
    if data.labels != "none" or task.labels != "needed":
        return
    names = [backbone.name for backbone in backbones]
    names += [baseline.backbone] if baseline.backbone and baseline.backbone not in names else []
    if len(names) > 1 or not isinstance(backbones[0], OnnxSection):
        yield Problem(
            ("task", "data", "labels"),
            "without labels, accuracy is the agreement of the files of one network with its own fp32 outputs, which "
            f"compares forms of that network alone: the only backbone must be one ONNX file; here: {', '.join(names)}",
        )


def masks_are_what_the_task_reads(task: Task, data: Data) -> Problems:
    are_masks = has_masks(data.source, data.labels)
    if task.labels == "masks" and not are_masks:
        text = f"task {task.kind} reads masks; allowed: source folder with labels masks, and builtin:fashion-mosaic"
        yield Problem(("task", "data"), text)
    elif are_masks and task.labels in ("needed", "used"):
        yield Problem(("task", "data"), f"its labels are masks, and task {task.kind} reads one class of each image")


def masks_change_with_their_images(task: Task, base: BaseSection, fine_tune: FineTune) -> Problems:
    if task.labels != "masks":
        return
    for name, section in (("base", base), ("fine_tune", fine_tune)):
        augmentation = section.augmentation
        for key in ("randaugment", "mixup", "cutmix") if isinstance(augmentation, AugmentationSection) else ():
            if getattr(augmentation, key):
                text = "changes an image without its mask; allowed for masks: flip and crop"
                yield Problem(("task", name, "augmentation", key), text)


def maps_are_of_networks(task: Task, backbones: tuple[AnyBackbone, ...]) -> Problems:
    for index, backbone in enumerate(backbones):
        if task.gives_map and isinstance(backbone, OnnxSection):
            text = f"an ONNX file is searched as a classifier, not for task {task.kind}"
            yield Problem(("space", "backbone", index), text)


def resolutions_show_whole_images(
    task: Task, data: Data, resolutions: tuple[ImageSize, ...], baseline: Baseline
) -> Problems:
    """What a model does not see of an image has no place in its map, and is in the masks nevertheless."""
    reason, shown = why_whole_images(task), data.image_size or next(iter(resolutions), None)
    sizes: list[tuple[Path, ImageSize]] = [
        (("space", "resolution", index), size) for index, size in enumerate(resolutions)
    ]
    sizes += [] if baseline.resolution is None else [(("baseline", "resolution"), baseline.resolution)]
    for path, size in sizes:
        if reason is not None and shown is not None and not size.has_shape_of(shown):
            yield Problem(path, f"{size} has another shape than {shown}, and {reason}; allowed: one shape")


def crops_show_whole_images(
    task: Task, backbones: tuple[AnyBackbone, ...], baseline: Baseline, teacher: str | TeacherSection
) -> Problems:
    reason = why_whole_images(task)
    sections: list[tuple[Path, StartingWeights]] = [
        (("space", "backbone", index), backbone) for index, backbone in enumerate(backbones)
    ]
    sections.append((("baseline",), baseline))
    sections += [] if isinstance(teacher, str) else [(("task", "teacher"), teacher)]
    for path, section in sections:
        if reason is not None and section.crop_share not in (None, 1.0):
            yield Problem((*path, "crop_share"), f"{section.crop_share:g}: {reason}; allowed: 1")


def a_reference_is_what_is_learned(
    task: Task, teacher: str | TeacherSection, distillation: Names, backbones: tuple[AnyBackbone, ...]
) -> Problems:
    if not task.has_reference:
        return
    if teacher == "none":
        yield Problem(
            ("task", "teacher"),
            f"task {task.kind} learns the outputs of a reference; allowed: self (the baseline), or a mapping that "
            "describes a model",
        )
    for index, name in enumerate(distillation):
        if name != "logits":
            text = f"task {task.kind} learns the outputs of its reference; allowed: logits"
            yield Problem(("space", "distillation", index), text)
    for index, backbone in enumerate(backbones):
        if isinstance(backbone, OnnxSection):
            text = f"an ONNX file is searched as a classifier, not for task {task.kind}"
            yield Problem(("space", "backbone", index), text)


def unlabelled_images_teach_nothing(
    task: Task, data: Data, teacher: str | TeacherSection, base: BaseSection, fine_tune: FineTune
) -> Problems:
    if data.labels != "none" or task.labels != "needed":
        return
    if isinstance(teacher, TeacherSection):
        yield Problem(("task", "teacher"), "has no effect with data.labels none: nothing is trained")
    for name, section in (("base", base), ("fine_tune", fine_tune)):
        if section.class_weights != "none":
            yield Problem(("task", name, "class_weights"), "has no effect with data.labels none: nothing is trained")


def distillation_has_a_teacher(teacher: str | TeacherSection, distillation: Names) -> Problems:
    for index, name in enumerate(distillation):
        if teacher == "none" and name != "none":
            message = f"{name!r} needs a teacher, but task.teacher is none; allowed: none"
            yield Problem(("space", "distillation", index), message)


RULES: tuple[Callable[..., Problems], ...] = (
    objectives_are_metrics,
    objectives_are_two,
    limits_fit_their_metric,
    phases_have_a_metric,
    threads_are_measured,
    streams_have_a_metric,
    devices_have_names,
    fleet_fits_its_devices,
    data_keys_fit_the_source,
    kind_is_a_task,
    qualities_are_those_of_the_task,
    a_reference_is_what_is_learned,
    only_one_file_labels_images,
    masks_are_what_the_task_reads,
    masks_change_with_their_images,
    maps_are_of_networks,
    resolutions_show_whole_images,
    crops_show_whole_images,
    unlabelled_images_teach_nothing,
    distillation_has_a_teacher,
)
