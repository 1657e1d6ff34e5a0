"""The splits of a data set, named by digests of their contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes, Labels, Truths
from vitsearch.data.store import ArrayRequest, Rows, stored
from vitsearch_agent.base.canonical_json import canonical_json


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels. `images` is uint8 (N, H, W, C) with C 1 or 3, possibly a read-only memory map; `labels`
    is int64 (N,), indices into the class names, or uint8 (N, H, W), masks of such indices, possibly a map too; `sha256`
    depends on the contents and their order, not on paths. `firsts` is int64 (N,), the first row with the same file as
    each row has; None where no file is there twice. `units` is int64 (N,), the first row of the unit of each row, where
    images belong to groups (see `vitsearch.data.groups`)."""

    images: Bytes
    labels: Truths
    sha256: str
    firsts: Labels | None = None
    units: Labels | None = None

    @classmethod
    def of(cls, images: Bytes, labels: Truths) -> Split:
        """A split whose digest is that of the bytes of its arrays."""
        return cls(images, labels, _digest(images.shape, [np.ascontiguousarray(images).data], labels))

    def __len__(self) -> int:
        return len(self.labels)


def first_rows(sha256s: Sequence[str]) -> Labels | None:
    """Find copies.

    Args:
        sha256s: The digests of the image files of a split, (N,).

    Returns:
        int64 (N,), the first row with the same digest; None where no digest is there twice.
    """
    first: dict[str, int] = {}
    rows = np.array([first.setdefault(sha256, row) for row, sha256 in enumerate(sha256s)], np.int64)
    return None if len(first) == len(rows) else rows


def digest_of_files(sha256s: Iterable[str], labels: Truths) -> str:
    """The digest of a split from the digests of its image files, so that it is the same with every Pillow version."""
    return _digest(labels.shape, ["\n".join(sha256s).encode("ascii")], labels)


class Part(Protocol):
    """Images to decode: their labels and the digests of their contents."""

    @property
    def labels(self) -> Labels: ...
    @property
    def sha256s(self) -> tuple[str, ...]: ...


def stored_splits(
    parts: Mapping[str, Part], size: ImageSize, channels: int, rows: Rows, cache_dir: Path | None
) -> dict[str, Split]:
    """The splits of `parts` by name; `rows` decodes the images that are not in `cache_dir` yet."""
    wanted = {
        name: ArrayRequest((len(part.labels), *size.sides, channels), part.sha256s) for name, part in parts.items()
    }
    images = stored(wanted, rows, cache_dir)
    return {
        name: Split(images[name], part.labels, digest_of_files(part.sha256s, part.labels), first_rows(part.sha256s))
        for name, part in parts.items()
    }


def _digest(shape: tuple[int, ...], contents: Iterable[bytes | memoryview], labels: Truths) -> str:
    sha256 = hashlib.sha256(canonical_json(list(shape)))
    for content in contents:
        sha256.update(content)
    if labels.ndim == 1:
        sha256.update(labels.astype("<i8").tobytes())
        return sha256.hexdigest()
    for mask in labels:  # all of them can be larger than the memory
        sha256.update(mask.astype(np.uint8).tobytes())
    return sha256.hexdigest()
