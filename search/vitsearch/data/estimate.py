"""What a data set will take, told before anything is decoded as a whole."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from vitsearch.data.folders.reader import survey_folder
from vitsearch.data.pixels import GREY, UNREADABLE, Content, decode_image, header_of, reason
from vitsearch.data.problems import Defects
from vitsearch.data.sizes import common_size
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.labels import label_of
from vitsearch.data.timm_sets.open import open_split
from vitsearch.data.timm_sets.read import Broken, OpenSplit, Sample, StreamSplit
from vitsearch.data.timm_sets.splits import split_names

SAMPLE = 32  # images
_BUILTIN_IMAGES = {"builtin:fashion-mnist-14k": 12_000, "builtin:fashion-mnist": 60_000}


@dataclass(frozen=True)
class Estimate:
    """``bytes`` of the decoded training and validation images. ``decode_cpu_s`` is the CPU time of
    decoding them once, extrapolated from ``sampled`` images; 0 where nothing is decoded."""

    images: int
    image_size: int
    channels: int
    mapped: bool
    decode_cpu_s: float
    sampled: int

    @property
    def bytes(self) -> int:
        return self.images * self.image_size**2 * self.channels

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"bytes": self.bytes}

    def describe(self) -> str:
        shape = f"{self.images:,} images, stored as {self.image_size}x{self.image_size}x{self.channels}"
        place = "on disk, mapped into memory as it is needed" if self.mapped else "in memory"
        text = f"{shape}: {_size(self.bytes)} {place}"
        if not self.sampled:
            return text
        taken = f"{_duration(self.decode_cpu_s)} of CPU time (an estimate from {self.sampled} images)"
        return f"{text}; decoding them once takes about {taken}"


def estimate(spec: DataSpec) -> Estimate:
    """Headers and a sample of :data:`SAMPLE` images are read. :class:`DataError` for what is found wrong so far."""
    if spec.source in _BUILTIN_IMAGES:
        return Estimate(_BUILTIN_IMAGES[spec.source], 28, spec.channels or 1, False, 0.0, 0)
    return _of_folder(spec) if spec.source == "folder" else _of_timm(spec)


def _of_folder(spec: DataSpec) -> Estimate:
    survey = survey_folder(spec, None)
    files = survey.files
    chosen = [(str(files[row].path), files[row].path) for row in _spread(len(files))]
    decode_s = _measured(str(survey.root), chosen, survey.image_size, survey.channels)
    return Estimate(len(files), survey.image_size, survey.channels, True, decode_s * len(files), len(chosen))


def _of_timm(spec: DataSpec) -> Estimate:
    names = split_names(spec)
    opened = [open_split(spec, name) for name in (names.train, names.validation) if name is not None]
    images, defects = sum(map(len, opened)), Defects(spec.source)
    started = time.process_time()
    samples = _sampled(opened[0])
    read_s = time.process_time() - started
    chosen: list[tuple[str, Content]] = []
    for sample in samples:
        if isinstance(sample.content, Broken):
            defects.broken(sample.name, sample.content.why)
        elif label_of(sample, defects) is not None:
            chosen.append((sample.name, sample.content))
    headers = list(_headers(chosen, defects))
    size = spec.image_size or common_size(((header.width, header.height) for header in headers), defects)
    defects.refuse()
    channels = spec.channels or (1 if all(header.mode in GREY for header in headers) else 3)
    decode_s = _measured(opened[0].where, chosen, size, channels)
    # Read twice, decoded once: see timm_source.
    return Estimate(images, size, channels, True, (decode_s + 2 * read_s / len(samples)) * images, len(samples))


def _sampled(split: OpenSplit) -> list[Sample]:
    """Evenly spaced, or the first ones where reading starts at the beginning."""
    rows = range(min(SAMPLE, len(split))) if isinstance(split, StreamSplit) else _spread(len(split))
    return list(split.read(rows))


def _spread(count: int) -> list[int]:
    return sorted({round(step * (count - 1) / (SAMPLE - 1)) for step in range(SAMPLE)}) if count else []


def _headers(chosen: Iterable[tuple[str, Content]], defects: Defects) -> Iterator[Image.Image]:
    for name, content in chosen:
        try:
            yield header_of(content)
        except UNREADABLE as error:
            defects.broken(name, reason(error))


def _measured(where: str, chosen: Sequence[tuple[str, Content]], size: int, channels: int) -> float:
    """CPU-seconds of one image."""
    defects, started = Defects(where), time.process_time()
    for name, content in chosen:
        try:
            decode_image(content, size, channels)
        except UNREADABLE as error:
            defects.broken(name, reason(error))
    defects.refuse()
    return (time.process_time() - started) / max(1, len(chosen))


def _size(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
