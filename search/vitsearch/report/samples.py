"""A few validation images beside what is true of them and what models give, for tasks that can be drawn."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitsearch.study.front import Front


@dataclass(frozen=True)
class SampleRow:
    """Pictures of the same images, as PNG files in base64, under one name."""

    name: str
    pictures: tuple[str, ...]


def sample_rows(samples: Sequence[Sequence[str]] | None, front: Front) -> Iterator[SampleRow]:
    """List the rows of a report.

    Args:
        samples: What a study keeps: each image with its truth. None of a task without pictures.
        front: The baseline and the knee are drawn.

    Yields:
        The images, what is true of them, and what each model gives.
    """
    if not samples:
        return
    yield SampleRow("image", tuple(image for image, _ in samples))
    yield SampleRow("truth", tuple(truth for _, truth in samples))
    for name, point in front.chosen.items():
        pictures = () if point.tally is None else point.tally.pictures()
        if pictures:
            yield SampleRow(name.strip(","), tuple(base64.b64encode(picture).decode() for picture in pictures))
