"""Folders of images with masks whose images belong to groups (`task.data.group`)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.core.data_sources import UNLABELLED
from vitsearch.data.folders.masked import MaskedPart, MaskedSurvey, decode, survey_masked
from vitsearch.data.folders.reader import FolderPart, grouped_parts
from vitsearch.data.holdout import held_out
from vitsearch.data.image_data import ImageData
from vitsearch.data.problems import Problems
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split
from vitsearch.data.statistics import mean_and_std


def survey_grouped(spec: DataSpec, cache_dir: Path | None) -> MaskedSurvey:
    """Read the headers of a folder with masks, and draw the validation images in whole groups.

    Args:
        spec: Of a folder with masks.
        cache_dir: Where headers are kept; None for nowhere.

    Returns:
        What `survey_masked` gives; where the spec has groups, with validation images.

    Raises:
        DataError: With all problems found.
    """
    survey = survey_masked(spec, cache_dir)
    if spec.group is None:
        return survey
    root, problems = survey.images.root, Problems(str(survey.images.root))
    images = survey.images
    grouped = grouped_parts(images.train, images.validation, images.test, root, spec.group, problems)
    problems.raise_any()
    train = MaskedPart(grouped[0], survey.train.masks).read()
    validation = _with(grouped[1], survey.validation)
    if validation is None:
        drawn, none = train.images, np.zeros(len(train), np.int64)
        share, seed = spec.validation_share, spec.seed
        chosen = held_out(drawn.sha256s, none, (UNLABELLED,), share, seed, problems, drawn.groups)
        problems.raise_any()
        train, validation = train.of_rows(np.flatnonzero(~chosen)), train.of_rows(np.flatnonzero(chosen))
    return replace(survey, train=train, validation=validation, test=_with(grouped[2], survey.test))


def load_grouped(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """Load the folder `spec.root` with its masks, as `load_masked` does, with groups.

    Args:
        spec: Of a folder with masks and groups.
        cache_dir: Where decoded images and masks are kept; None for memory.

    Returns:
        The data set.

    Raises:
        DataError: With all problems found.
    """
    survey = survey_grouped(spec, cache_dir)
    parts = survey.parts(spec)
    splits = {
        name: replace(split, units=parts[name].images.units) for name, split in decode(parts, survey, cache_dir).items()
    }
    mean, std = mean_and_std(splits["train"].images)
    read_test = None if survey.test is None else partial(_read_test, survey.test, survey, cache_dir)
    return ImageData(survey.class_names, splits["train"], splits["validation"], mean, std, read_test)


def _with(images: FolderPart | None, part: MaskedPart | None) -> MaskedPart | None:
    return None if images is None or part is None else MaskedPart(images, part.masks)


def _read_test(test: MaskedPart, survey: MaskedSurvey, cache_dir: Path | None) -> Split:
    return decode({"test": test.read()}, survey, cache_dir)["test"]
