"""The names of the classes of a data set, without decoding its images."""

from __future__ import annotations

from vitsearch.data.fashion_mnist import load_fashion_mnist
from vitsearch.data.folders.reader import survey_folder
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.source import survey_timm


def class_names(spec: DataSpec) -> tuple[str, ...]:
    """The names of the classes, in their order. Raises :class:`~vitsearch.errors.DataError`."""
    if spec.source == "folder":
        return survey_folder(spec, None).names
    if spec.source.startswith("builtin:"):
        return load_fashion_mnist(spec).class_names
    return survey_timm(spec, None).class_names
