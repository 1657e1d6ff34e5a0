"""Whether finished weights fit the classes and the preprocessing that a space file says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitsearch.core.caveats.agreement import agreement_text
from vitsearch.core.pareto import wilson
from vitsearch.core.preprocessing import USUAL, Preprocessing, normalisation_text
from vitsearch.data import DataSpec
from vitsearch.errors import NetworkError, PlanError, UnknownName, WeightsError
from vitsearch.models.backbone import ModelSpec
from vitsearch.search.check.user_code import caller
from vitsearch.search.starting_weights import Start, starts
from vitsearch.space import SearchSpace
from vitsearch.space.nodes import Path
from vitsearch.space.problems import Problem
from vitsearch.tasks import CLASSIFICATION, Task

if TYPE_CHECKING:
    from vitsearch.data.validation_sample import ValidationSample
    from vitsearch.workers.pretrained_accuracy import PreprocessingAccuracy

MOST_IMAGES = 500
TRAINED_FIRST = (
    "trained on your classes before the search, because its classifier has another number of classes, or its first "
    "layer another number of channels"
)
CLEARLY = 3.0
"""Standard errors of the difference between two preprocessings on the same images."""


@dataclass(frozen=True)
class CheckedWeights:
    """`tried` says of each backbone with a file of the user's what its weights do, that they are trained first or taken
    as they are, or that they label the images."""

    problems: list[Problem]
    warnings: list[str]
    tried: dict[str, str]


def check_weights(space: SearchSpace, spec: DataSpec, channels: int, refused: Sequence[Path] = ()) -> CheckedWeights:
    """Judge what the file says of its weights, and classify some images with those of the user's own files. Files of
    other classes are left out: they are trained. Files for another task than classification are built alone. Weights
    are `refused` where something is wrong with them already."""
    checked = CheckedWeights([], [], {})
    own: list[tuple[Start, Preprocessing]] = []
    for start in starts(space):
        if any(path[: len(start.path)] == start.path for path in refused):
            continue
        try:
            preprocessing = start.preprocessing(channels)
        except (NetworkError, UnknownName):  # a name that is refused at another place
            continue
        except PlanError as error:
            checked.problems.append(Problem(start.path, str(error)))
            continue
        if start.section.weights.startswith("file:"):
            from vitsearch.backbones.weights import note_on  # torch: only where there is a file

            checked.warnings.extend(f"{start.backbone}: {note}" for note in [note_on(start.section.weights)] if note)
        if space.labelled_by is not None:
            checked.tried[start.backbone] = agreement_text(start.backbone)
        elif preprocessing is not None and start.section.weights.startswith("file:"):
            own.append((start, preprocessing))
    if not own:
        return checked
    from vitsearch.data.validation_sample import validation_sample

    task = space.task_source.find()
    sample = validation_sample(spec, MOST_IMAGES if task == CLASSIFICATION else 1)
    for start, preprocessing in own:
        model = _spec_of(start, task, tuple(sample.class_names), channels)
        try:
            if task == CLASSIFICATION:
                _classify(start, model, space, sample, [preprocessing, *_others(preprocessing, channels)], checked)
            else:
                checked.tried[start.backbone] = _what_becomes_of(start, model, space, task)
        except (PlanError, WeightsError) as error:
            checked.problems.append(Problem(start.path, str(error)))
    return checked


def _spec_of(start: Start, task: Task, class_names: tuple[str, ...], channels: int) -> ModelSpec:
    return ModelSpec(
        start.backbone,
        start.section.weights,
        start.catalogue.native_resolution(start.backbone),
        0 if task.has_reference else task.outputs(len(class_names)),
        channels,
        class_names=class_names,
        gives_map=task.gives_map,
    )


def _what_becomes_of(start: Start, model: ModelSpec, space: SearchSpace, task: Task) -> str:
    """What a run does with weights for another task than classification."""
    from vitsearch.workers.pretrained_accuracy import fits  # torch: only where there is a file

    is_fit, reference = caller(start.backbone, space.networks, fits)(model, space.networks), space.reference
    if reference is not None and (start.backbone, start.section.weights) != (reference.backbone, reference.weights):
        return "trained to give the outputs of the reference before the search"
    if not is_fit:
        return f"trained for task {task.kind} before the search, because its last or its first layer is new"
    return f"taken as they are (only those for task {CLASSIFICATION.kind} are tried on images)"


def _classify(
    start: Start,
    model: ModelSpec,
    space: SearchSpace,
    sample: ValidationSample,
    ways: list[Preprocessing],
    checked: CheckedWeights,
) -> None:
    from vitsearch.workers.pretrained_accuracy import judge  # torch: only where there is a file

    answers = caller(start.backbone, space.networks, judge)(model, space.networks, sample, ways)
    if answers is None:
        checked.tried[start.backbone] = TRAINED_FIRST
    else:
        checked.tried[start.backbone] = _said(answers[0])
        _report(start, answers, sample, checked)


def _report(
    start: Start, answers: list[PreprocessingAccuracy], sample: ValidationSample, checked: CheckedWeights
) -> None:
    own, *others = answers
    better = _clearly_better(own, others)
    hint = "" if better is None else f"; with '{normalisation_text(better.preprocessing)}' beside them {_said(better)}"
    shown = f"weights {start.section.weights!r} with {normalisation_text(own.preprocessing)}"
    if _is_chance(own, sample):
        name, share = _largest(sample)
        cause = hint or "; do they know these classes, in the order of their names?"
        text = f"{shown} classify {_said(own)}, which is chance: {share:.0%} of these images are {name!r}{cause}"
        checked.problems.append(Problem(start.path, text))
    elif better is not None:
        checked.warnings.append(f"{start.backbone}: {shown} classify {_said(own)}{hint}")


def _others(own: Preprocessing, channels: int) -> Iterator[Preprocessing]:
    for usual in USUAL:
        numbers = usual.on_channels(channels)
        if not np.allclose((numbers.mean, numbers.std), (own.mean, own.std), atol=1e-3):
            yield Preprocessing(numbers.mean, numbers.std, own.interpolation, own.crop_share)


def _clearly_better(own: PreprocessingAccuracy, others: list[PreprocessingAccuracy]) -> PreprocessingAccuracy | None:
    """By the images that only one of two preprocessings has right (McNemar 1947)."""
    best = max(others, key=lambda answers: answers.correct, default=None)
    if best is None:
        return None
    gained, lost = int((best.right & ~own.right).sum()), int((own.right & ~best.right).sum())
    return best if gained - lost > CLEARLY * math.sqrt(gained + lost) else None


def _is_chance(answers: PreprocessingAccuracy, sample: ValidationSample) -> bool:
    return wilson(answers.correct, answers.n)[0] <= _largest(sample)[1]


def _largest(sample: ValidationSample) -> tuple[str, float]:
    """The largest class and its share of the images."""
    counts = np.bincount(sample.labels)
    return sample.class_names[int(counts.argmax())], float(counts.max() / counts.sum())


def _said(answers: PreprocessingAccuracy) -> str:
    return f"{answers.correct} of {answers.n} images right"
