"""Frozen values that a data set is made of, and the names of its arrays' digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.store import Rows, Wanted, stored
from vitsearch_evaluators.base.canonical_json import canonical_json


@dataclass(frozen=True, eq=False)
class Split:
    """``images`` uint8 (N, H, W, C), C 1 or 3, perhaps a read-only memory map; ``labels`` int64 (N,),
    indices into the class names; ``sha256`` names the contents in their order, whatever the path."""

    images: Bytes
    labels: Labels
    sha256: str

    @classmethod
    def of(cls, images: Bytes, labels: Labels) -> Split:
        """A split named by the bytes of its arrays."""
        return cls(images, labels, _digest(images.shape, [np.ascontiguousarray(images).data], labels))

    def __len__(self) -> int:
        return len(self.labels)


def digest_of_files(sha256s: Iterable[str], labels: Labels) -> str:
    """Names a split by the bytes of its image files, so that every Pillow version agrees on it."""
    return _digest(labels.shape, ["\n".join(sha256s).encode("ascii")], labels)


class Part(Protocol):
    """Images that are to be decoded: their labels and the digests of their contents."""

    @property
    def labels(self) -> Labels: ...
    @property
    def sha256s(self) -> tuple[str, ...]: ...


def stored_splits(
    parts: Mapping[str, Part], size: int, channels: int, rows: Rows, cache_dir: Path | None
) -> dict[str, Split]:
    """The splits of ``parts`` by name, their images decoded by ``rows`` unless they are in ``cache_dir``."""
    wanted = {name: Wanted((len(part.labels), size, size, channels), part.sha256s) for name, part in parts.items()}
    images = stored(wanted, rows, cache_dir)
    return {
        name: Split(images[name], part.labels, digest_of_files(part.sha256s, part.labels))
        for name, part in parts.items()
    }


def _digest(shape: tuple[int, ...], contents: Iterable[bytes | memoryview], labels: Labels) -> str:
    sha256 = hashlib.sha256(canonical_json(list(shape)))
    for content in contents:
        sha256.update(content)
    sha256.update(labels.astype("<i8").tobytes())
    return sha256.hexdigest()
