"""An estimate of the memory and decoding time of a data set, from a sample of its images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vitsearch.core.image_size import ImageSize
from vitsearch.data.builtin import BUILTIN_SIZES
from vitsearch.data.dark_files import brightest_pixel, too_dark
from vitsearch.data.folders.masked import survey_masked
from vitsearch.data.folders.reader import FolderSurvey, survey_folder
from vitsearch.data.pixels import DEEP, GREY, UNREADABLE, Content, Header, decode_image, header_of, open_image, reason
from vitsearch.data.problems import Problems
from vitsearch.data.spec import DataSpec
from vitsearch.data.statistics import common_size
from vitsearch.data.timm_sets.labels import label_of
from vitsearch.data.timm_sets.open import open_split
from vitsearch.data.timm_sets.read import OpenSplit, Sample, StreamSplit, UnreadableImage
from vitsearch.data.timm_sets.splits import split_names

SAMPLE = 32  # images


@dataclass(frozen=True)
class DataEstimate:
    """`bytes` is the size of the decoded training and validation images. `decode_cpu_s` is the CPU time of
    decoding them once, extrapolated from `sampled` images; 0 for sets that are not decoded. `too_dark` says that those
    of a set that timm reads have few of the 16 bits of their files."""

    images: int
    image_size: ImageSize
    channels: int
    mapped: bool
    decode_cpu_s: float
    sampled: int
    too_dark: str | None = None

    @property
    def bytes(self) -> int:
        return self.images * self.image_size.pixels * self.channels

    def describe(self) -> str:
        """The estimate in words."""
        height, width = self.image_size.sides
        shape = f"{self.images:,} images, stored as {height}x{width}x{self.channels}"
        storage = "on disk, mapped into memory as needed" if self.mapped else "in memory"
        text = f"{shape}: {_size(self.bytes)} {storage}"
        if not self.sampled:
            return text
        decoding = f"{_duration(self.decode_cpu_s)} of CPU time (estimated from {self.sampled} images)"
        return f"{text}; decoding them once takes about {decoding}"


def estimate(spec: DataSpec) -> DataEstimate:
    """Read the headers and decode a sample of `SAMPLE` images.

    Raises `DataError` with every problem that these show.
    """
    if spec.source in BUILTIN_SIZES:
        images, size = BUILTIN_SIZES[spec.source]
        return DataEstimate(images, size, spec.channels or 1, False, 0.0, 0)
    if spec.source != "folder":
        return _of_timm(spec)
    return estimate_of_folder(survey_masked(spec, None).images if spec.has_masks else survey_folder(spec, None))


def estimate_of_folder(survey: FolderSurvey) -> DataEstimate:
    """The estimate of a folder whose headers were read."""
    files = survey.files
    chosen = [(str(files[row].path), files[row].path) for row in _evenly_spaced(len(files))]
    size, channels = survey.image_size, survey.channels
    decode_s = _decode(str(survey.root), chosen, size, channels)
    return DataEstimate(len(files), size, channels, True, decode_s * len(files), len(chosen))


def _of_timm(spec: DataSpec) -> DataEstimate:
    names = split_names(spec)
    opened = [open_split(spec, name) for name in (names.train, names.validation) if name is not None]
    images, problems = sum(map(len, opened)), Problems(spec.source)
    # Samples are read first and decoded later, so that each step is timed alone.
    started = time.process_time()
    samples = _sampled(opened[0])
    read_s = time.process_time() - started
    chosen: list[tuple[str, Content]] = []
    for sample in samples:
        if isinstance(sample.content, UnreadableImage):
            problems.add_unreadable(sample.name, sample.content.why)
        elif label_of(sample, problems) is not None:
            chosen.append((sample.name, sample.content))
    headers = list(_headers(chosen, problems))
    size = spec.image_size or common_size(((header.width, header.height) for header in headers), problems)
    problems.raise_any()
    channels = spec.channels or (1 if all(header.mode in GREY for header in headers) else 3)
    decode_s = _decode(opened[0].where, chosen, size, channels)
    # timm_sets/source.py reads every sample twice and decodes it once.
    cpu_s = (decode_s + 2 * read_s / len(samples)) * images
    return DataEstimate(images, size, channels, True, cpu_s, len(samples), too_dark(dict(_brightest(chosen))))


def _sampled(split: OpenSplit) -> list[Sample]:
    """Evenly spaced samples, or the first ones of a stream, which can only be read from its beginning."""
    rows = range(min(SAMPLE, len(split))) if isinstance(split, StreamSplit) else _evenly_spaced(len(split))
    return list(split.read(rows))


def _evenly_spaced(count: int) -> list[int]:
    return sorted({round(step * (count - 1) / (SAMPLE - 1)) for step in range(SAMPLE)}) if count else []


def _headers(chosen: Iterable[tuple[str, Content]], problems: Problems) -> Iterator[Header]:
    for name, content in chosen:
        try:
            yield header_of(content)
        except UNREADABLE as error:
            problems.add_unreadable(name, reason(error))


def _decode(where: str, chosen: Sequence[tuple[str, Content]], size: ImageSize, channels: int) -> float:
    """CPU-seconds of decoding one image, on average."""
    problems, started = Problems(where), time.process_time()
    for name, content in chosen:
        try:
            decode_image(content, size, channels)
        except UNREADABLE as error:
            problems.add_unreadable(name, reason(error))
    problems.raise_any()
    return (time.process_time() - started) / max(1, len(chosen))


def _brightest(chosen: Iterable[tuple[str, Content]]) -> Iterator[tuple[str, int]]:
    for name, content in chosen:
        with open_image(content) as image:
            if image.mode in DEEP:
                yield name, brightest_pixel(image)


def _size(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
