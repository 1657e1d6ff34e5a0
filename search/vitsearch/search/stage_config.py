"""What the stages of a run need, from a space file and a description of its data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core.image_size import MOST_PIXELS, ImageSize, smallest_enclosing
from vitsearch.core.keys import DataIdentity
from vitsearch.core.metrics import needs_confirmation
from vitsearch.core.preprocessing import Preprocessing, PreprocessingKeys
from vitsearch.devices.protocols import Phases
from vitsearch.errors import DataError
from vitsearch.models.backbone import ModelSpec
from vitsearch.pipeline.config import StageConfig, Teacher
from vitsearch.search.plan_space import catalogue_of
from vitsearch.space import SearchSpace
from vitsearch.space.section_base import StartingWeights
from vitsearch.space.task import Data, TeacherSection
from vitsearch.stages import Source
from vitsearch.study.sampling import PlanSpace
from vitsearch.tasks import CLASSIFICATION, TaskSource, why_whole_images
from vitsearch_agent.base.canonical_json import digest


def stage_config_of(plans: PlanSpace, data: dict[str, Any]) -> StageConfig:
    space = plans.space
    teacher, seed, catalogue, task = (
        space.task.teacher,
        space.search.seed,
        catalogue_of(space),
        space.task_source.find(),
    )
    if (reason := why_whole_images(task)) is not None:
        sizes = [*space.space.resolution, space.baseline_resolution]
        _refuse_cut_images(sizes, ImageSize.of(data["image_size"]), reason)
    reference = _reference_of(space)
    preprocessing = preprocessing_with(data, catalogue)
    identity = DataIdentity(data["fingerprint"], task.outputs(len(data["class_names"])), data["channels"])
    if reference is not None:
        seen = preprocessing(reference.backbone, reference.weights, reference.preprocessing)
        start = Source(reference.backbone, reference.weights, plans.base_resolution(reference.backbone), seen)
        identity = _held_to(start, catalogue, replace(identity, classes=0), space.task_source)
    elif task != CLASSIFICATION:
        identity = replace(identity, task=space.task_source.digest)
    return StageConfig(
        data=identity,
        base_recipe=space.task.base.recipe(seed),
        teacher=reference if isinstance(teacher, str) else teacher_of(teacher, seed),
        reference=reference,
        base_resolution=plans.base_resolution,
        preprocessing=preprocessing,
        starting_digest=lambda source: catalogue.starting_digest(spec_of(source, identity)),
        calibration_images=space.task.proxy.calibration_images,
        quantization_images=space.task.proxy.quantization_images,
        seed=seed,
        qat=space.task.quantization_aware.settings(),
        device_images={name: device.accuracy_images for name, device in space.devices.items()},
        task=task,
        class_names=tuple(data["class_names"]),
        is_labelled=space.task.data.labels != "none" or space.labelled_by is not None,
        phases=Phases.of([*space.objectives, *space.limits], space.measure),
        confirms=needs_confirmation([*space.objectives, *space.limits]),
        fleet_weights=space.fleet_weights,
    )


def _refuse_cut_images(resolutions: Iterable[ImageSize], stored: ImageSize, reason: str) -> None:
    """Raise `DataError` where a model would see a part of each image alone."""
    for size in resolutions:
        if not size.has_shape_of(stored):
            raise DataError(
                f"space.resolution: {size} has another shape than the images, which have {stored} pixels, and {reason}"
            )


def _held_to(reference: Source, catalogue: Catalogue, data: DataIdentity, task: TaskSource) -> DataIdentity:
    """The properties that keys depend on where the outputs of a reference are what all others are to give."""
    start = catalogue.starting_digest(spec_of(reference, data))
    return replace(data, task=digest({"task": task.digest, "start": start, "view": reference.view.in_keys()}))


def _reference_of(space: SearchSpace) -> Teacher | None:
    section, seed = space.reference, space.search.seed
    if section is None or isinstance(section, TeacherSection):
        return None if section is None else teacher_of(section, seed)
    return Teacher(section.backbone, section.weights, space.task.base.recipe(seed), section.preprocessing)


def teacher_of(section: TeacherSection, seed: int) -> Teacher:
    return Teacher(section.backbone, section.weights, section.recipe(seed), section.preprocessing)


def spec_of(source: Source, data: DataIdentity) -> ModelSpec:
    return ModelSpec(
        source.backbone, source.weights, source.resolution, data.classes, data.channels, source.window_size
    )


def data_spec(space: SearchSpace, study_data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The data set as workers read it. The user's images are stored so that the crop of each model has at least the
    resolution that is searched. A study whose data is `known` keeps their size, as long as it holds every resolution:
    another one would be other data, whenever a backbone with another crop is added."""
    largest = smallest_enclosing([*space.space.resolution, space.baseline_resolution])
    if study_data is not None and (known := ImageSize.of(study_data["image_size"])).holds(largest):
        return stored_data(space.task.data, known)
    catalogue = catalogue_of(space)
    shares = [_crop_share(choice.name, choice, catalogue) for choice in space.space.backbone]
    shares.append(_crop_share(space.baseline.backbone, space.baseline, catalogue))
    return stored_data(space.task.data, _around(largest, min(shares)))


def _around(size: ImageSize, share: float) -> ImageSize:
    """The size of which `size` is a share of each side, or the largest of its shape that can be stored."""
    height, width = (round(side / share) for side in size.sides)
    return ImageSize(height, width) if max(height, width) <= MOST_PIXELS else size.scaled(MOST_PIXELS / max(size.sides))


def _crop_share(backbone: str, start: StartingWeights, catalogue: Catalogue) -> float:
    if start.crop_share is not None:
        return start.crop_share
    own = catalogue.preprocessing(backbone, start.weights)
    return 1.0 if own is None else own.crop_share


def preprocessing_with(
    data: dict[str, Any], catalogue: Catalogue
) -> Callable[[str, str, PreprocessingKeys], Preprocessing]:
    """How weights read the images of this data: as the keys say, else as the weights do, else as the data does."""
    of_data = Preprocessing(tuple(data["mean"]), tuple(data["std"]))

    @functools.cache
    def preprocessing(backbone: str, weights: str, keys: PreprocessingKeys) -> Preprocessing:
        return keys.over(catalogue.preprocessing(backbone, weights) or of_data, data["channels"])

    return preprocessing


def stored_data(data: Data, largest: ImageSize) -> dict[str, Any]:
    """The data set with the size at which its images are stored: `largest` unless the file says it."""
    own_size = data.source.startswith("builtin:")
    size = data.image_size or (None if own_size else largest)
    return data.model_dump() | {"image_size": None if size is None else size.to_json()}
