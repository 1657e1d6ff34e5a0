"""Statistics of the unpruned base on the calibration images: plain arrays, kept in a file.

`vitsearch.compress.scores` collects them once for each base, resolution and calibration set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from vitsearch.core.resolve import Scores

Array = NDArray[np.float32]
Criterion = Literal["taylor", "variance"]


@dataclass(frozen=True, eq=False)
class UnitStatistics:
    """Statistics of one consumer, `proj` or `fc2`, whose `columns` inputs come from `units` heads or neurons.

    `taylor` (units,): sum over images, or windows of images, of `|sum over positions and columns of a dCE/da|`
    (Molchanov et al. 2017, Michel et al. 2019). `variance` (units,): variance of the contribution of the unit to the
    consumer's output, summed over outputs. `mean` (columns,) and `covariance` (columns, columns, centred) of the
    inputs over all positions of all images, prefix tokens included; both are empty for a layer that is not fitted. A
    unit of a convolution has a column for each pixel under the kernel.
    """

    taylor: Array
    variance: Array
    mean: Array
    covariance: Array


@dataclass(frozen=True, eq=False)
class BlockStatistics:
    """Statistics of one block; `None` where the block has no units of that kind."""

    heads: UnitStatistics | None
    ffn: UnitStatistics | None


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of all blocks of the block structure, on `images` calibration images.

    `depth` is the score of each block as a whole: `taylor` with all of its columns as one unit. `embed` is the
    score of each channel of the residual stream, summed over its readers; empty for families that do not cut the
    stream.
    """

    blocks: tuple[BlockStatistics, ...]
    images: int
    depth: tuple[float, ...] = ()
    embed: tuple[float, ...] = ()

    def scores(self, criterion: Criterion = "taylor") -> Scores:
        """Importance of each unit. Only `taylor` depends on labels."""
        return Scores(
            tuple(_row(block.heads, criterion) for block in self.blocks),
            tuple(_row(block.ffn, criterion) for block in self.blocks),
            self.depth,
            self.embed,
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file in float32; the covariances of 6 blocks of width 192 take 15 MB."""
        tensors = {
            f"{index}.{part}.{field.name}": np.ascontiguousarray(getattr(unit, field.name))
            for index, block in enumerate(self.blocks)
            for part, unit in (("heads", block.heads), ("ffn", block.ffn))
            if unit is not None
            for field in fields(UnitStatistics)
        }
        whole = {name: np.array(getattr(self, name), np.float64) for name in ("depth", "embed")}
        whole |= {"size": np.array([len(self.blocks), self.images], np.int64)}
        save_file(tensors | whole, path)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        tensors = load_file(path)
        blocks, images = map(int, tensors["size"])
        parts = ((_unit(tensors, index, "heads"), _unit(tensors, index, "ffn")) for index in range(blocks))
        depth, embed = (tuple(map(float, tensors.get(name, ()))) for name in ("depth", "embed"))
        return cls(tuple(BlockStatistics(heads, ffn) for heads, ffn in parts), images, depth, embed)


def _row(unit: UnitStatistics | None, criterion: Criterion) -> tuple[float, ...]:
    return () if unit is None else tuple(float(value) for value in getattr(unit, criterion))


def _unit(tensors: Mapping[str, Array], index: int, part: str) -> UnitStatistics | None:
    names = [field.name for field in fields(UnitStatistics)]
    if f"{index}.{part}.mean" not in tensors:
        return None
    return UnitStatistics(**{name: tensors[f"{index}.{part}.{name}"] for name in names})
