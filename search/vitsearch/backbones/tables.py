"""Tables of positions and of position biases, resampled to another map or window.

A table with one axis for all positions does not say how many rows they are. They are those of a map with the shape of
the images, or of a square window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from vitsearch.backbones.weights_file import State
from vitsearch.core.image_size import ImageSize, Sides

BIASES = "attention_biases"
"""End of the names of position biases (heads, positions)."""
EMBEDDINGS = "pos_embed"
"""In the names of tables that are added to a map: (1, positions, channels), or with two axes of positions."""
ANY_SQUARE = ImageSize.square(1)


def resample_biases(state: State, model: nn.Module, old: ImageSize, new: ImageSize) -> State:
    """`state` with its position biases (heads, height x width) interpolated to the maps of `model`.

    For attentions that have one bias for each distance between two tokens (LeViT and its successors). Bicubic, as in
    TinyViT (Wu et al. 2022); timm itself refuses them at another resolution.

    Args:
        state: The weights of a model.
        model: The model that gets them.
        old: The size of the images that the weights were trained on.
        new: That of the images of `model`.

    Returns:
        The weights, which fit `model`.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return {
        name: _resampled_bias(value, wanted[name], old, new) if name.endswith(BIASES) and name in wanted else value
        for name, value in state.items()
    }


def resample_tables(state: State, model: nn.Module, old: ImageSize, new: ImageSize) -> State:
    """`state` with every table of positions that has another shape in `model` interpolated to that shape.

    For models of which nothing else is known. A table has one or two axes of positions, which are those whose length
    differs: two sides of a map, or a map laid out as one axis, behind up to two prefix tokens. Bicubic, as timm's own;
    position biases as in `resample_biases`. What is no such table stays as it is, so that the loader refuses it by
    name. Tables that are called positions are resampled too where the shape of the images alone differs.

    Args:
        state: The weights of a model.
        model: The model that gets them.
        old: The size of the images that the weights were trained on.
        new: That of the images of `model`.

    Returns:
        The weights, which fit `model`.
    """
    state = resample_biases(state, model, old, new)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return {
        name: _resampled(name, value, wanted[name], (old, new))
        if name in wanted and value.is_floating_point() and not name.endswith(BIASES)
        else value
        for name, value in state.items()
    }


def resample_square_tables(state: State, model: nn.Module, old: ImageSize, new: ImageSize) -> State:
    """The same for models whose tables are those of square windows, whatever the shape of the images.

    Args:
        state: The weights of a model.
        model: The model that gets them.
        old: The size of the images that the weights were trained on.
        new: That of the images of `model`.

    Returns:
        The weights, which fit `model`.
    """
    return resample_tables(state, model, ANY_SQUARE, ANY_SQUARE)


def grid_of(positions: int, size: ImageSize) -> Sides | None:
    """Find the rows and columns of a map.

    Args:
        positions: How many the map has.
        size: That of the images, whose shape it has but for roundings.

    Returns:
        Rows and columns; those of a square where no map of that shape has so many; None where a square has not either.
    """
    rows = round(math.sqrt(max(0, positions) * size.height / size.width))
    if rows and positions % rows == 0 and _is_rounded((rows, positions // rows), size):
        return rows, positions // rows
    side = math.isqrt(max(0, positions))
    return (side, side) if side and side**2 == positions else None


def _is_rounded(grid: Sides, size: ImageSize) -> bool:
    """Whether a map has the shape of images, but for less than one row or column."""
    rows, columns = grid
    return (rows - 1) * size.width < columns * size.height and rows * size.width > (columns - 1) * size.height


def _resampled_bias(value: torch.Tensor, wanted: tuple[int, ...], old: ImageSize, new: ImageSize) -> torch.Tensor:
    if value.ndim != 2 or len(wanted) != 2 or value.shape[0] != wanted[0]:
        return value
    was, now = grid_of(value.shape[1], old), grid_of(wanted[1], new)
    if was is None or now is None or was == now:
        return value
    maps = value.float().reshape(1, len(value), *was)
    resized = functional.interpolate(maps, size=now, mode="bicubic", antialias=True)
    return resized.reshape(wanted).to(value.dtype).contiguous()


def _resampled(
    name: str, value: torch.Tensor, wanted: tuple[int, ...], sizes: tuple[ImageSize, ImageSize]
) -> torch.Tensor:
    if value.ndim != len(wanted):
        return value
    differing = [axis for axis, pair in enumerate(zip(value.shape, wanted, strict=True)) if pair[0] != pair[1]]
    is_named = EMBEDDINGS in name
    if len(differing) == 2:
        return _interpolated(value, differing, [wanted[axis] for axis in differing])
    if len(differing) == 1 and is_named and value.ndim == 4:  # the other side of the map stays as long as it is
        (axis,) = differing
        return _interpolated(value, [axis - 1, axis], [wanted[axis - 1], wanted[axis]])
    if len(differing) == 1:
        return _laid_out(value, differing[0], wanted, sizes)
    if not differing and is_named and value.ndim == 3 and not sizes[0].has_shape_of(sizes[1]):
        return _laid_out(value, 1, wanted, sizes)
    return value


def _laid_out(
    value: torch.Tensor, axis: int, wanted: tuple[int, ...], sizes: tuple[ImageSize, ImageSize]
) -> torch.Tensor:
    """`value` with the map resized that is laid out as an `axis`, behind its prefix tokens."""
    for prefix in range(3):
        was, now = grid_of(value.shape[axis] - prefix, sizes[0]), grid_of(wanted[axis] - prefix, sizes[1])
        if was and now and was != now:
            head, grid = value.narrow(axis, 0, prefix), value.narrow(axis, prefix, was[0] * was[1])
            maps = grid.reshape(*value.shape[:axis], *was, *value.shape[axis + 1 :])
            resized = _interpolated(maps, [axis, axis + 1], now).flatten(axis, axis + 1)
            return torch.cat([head, resized], axis)
    return value


def _interpolated(value: torch.Tensor, axes: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """`value` with the two `axes` resized."""
    maps = value.movedim(tuple(axes), (-2, -1))
    flat = maps.reshape(1, -1, *maps.shape[-2:]).float()
    resized = functional.interpolate(flat, size=tuple(sizes), mode="bicubic", align_corners=False)
    return resized.reshape(*maps.shape[:-2], *sizes).movedim((-2, -1), tuple(axes)).to(value.dtype).contiguous()
