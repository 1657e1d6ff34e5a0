"""A few labelled images of a data set, decoded without storing anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitsearch.data.arrays import Bytes, Labels, Truths
from vitsearch.data.builtin import is_builtin, load_builtin
from vitsearch.data.folders.masked import decode, survey_masked
from vitsearch.data.folders.reader import decoded_sample, survey_folder
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.source import decoded_rows, survey_timm

SEED = 0


@dataclass(frozen=True, eq=False)
class ValidationSample:
    """`images` uint8 (N, H, W, C) and `labels` (N,), or masks uint8 (N, H, W), of one split."""

    class_names: tuple[str, ...]
    images: Bytes
    labels: Truths


def validation_sample(spec: DataSpec, most: int) -> ValidationSample:
    """Up to `most` validation images, drawn at random.

    A folder without validation images gives any of its images: which of them validate is known only when all are read.
    Raises `DataError`.
    """
    if is_builtin(spec.source):
        data = load_builtin(spec)
        rows = _drawn(len(data.validation), most)
        return ValidationSample(data.class_names, data.validation.images[rows], data.validation.labels[rows])
    if spec.source == "folder" and spec.has_masks:
        masked = survey_masked(spec, None)
        chosen = masked.validation or masked.train
        sample = chosen.unread(_drawn(len(chosen), most)).read()
        split = decode({"sample": sample}, masked, None)["sample"]
        return ValidationSample(masked.class_names, split.images, split.labels)
    if spec.source == "folder":
        survey = survey_folder(spec, None)
        part = survey.validation or survey.train
        split = decoded_sample(survey, part, _drawn(len(part.labels), most))
        return ValidationSample(survey.names, split.images, split.labels)
    timm_set = survey_timm(spec, None)
    split = decoded_rows(timm_set, _drawn(len(timm_set.parts["validation"].labels), most))
    return ValidationSample(timm_set.class_names, split.images, split.labels)


def _drawn(count: int, most: int) -> Labels:
    """Ascending rows."""
    return np.sort(np.random.default_rng(SEED).permutation(count)[:most])
