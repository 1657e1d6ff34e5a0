"""Tables of positions and of position biases, resampled to another map or window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.layers import resize_rel_pos_bias_table_levit
from torch import nn
from torch.nn import functional

from vitsearch.backbones.weights_file import State


def resample_biases(state: State, model: nn.Module) -> State:
    """`state` with its position biases (heads, height x width) interpolated to the maps of `model`.

    For attentions that have one bias for each distance between two tokens (LeViT and its successors). Bicubic, as in
    TinyViT (Wu et al. 2022); timm itself refuses them at another resolution.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return {
        name: resize_rel_pos_bias_table_levit(value.T, wanted[name][::-1]).T.contiguous()
        if name.endswith("attention_biases") and _can_be_resampled(tuple(value.shape), wanted.get(name))
        else value
        for name, value in state.items()
    }


def resample_tables(state: State, model: nn.Module) -> State:
    """`state` with every table of positions that has another shape in `model` interpolated to that shape.

    For models of which nothing else is known. A table has one or two axes of positions, which are those whose length
    differs: two sides of a map, or a map of equal sides laid out as one axis, behind up to two prefix tokens. Bicubic,
    as timm's own; position biases as in `resample_biases`. What is no such table stays as it is, so that the loader
    refuses it by name.
    """
    state = resample_biases(state, model)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return {
        name: _resampled(value, wanted[name]) if name in wanted and value.is_floating_point() else value
        for name, value in state.items()
    }


def _resampled(value: torch.Tensor, wanted: tuple[int, ...]) -> torch.Tensor:
    differing = [axis for axis, pair in enumerate(zip(value.shape, wanted, strict=False)) if pair[0] != pair[1]]
    if value.ndim != len(wanted) or not differing:
        return value
    if len(differing) == 2:
        return _interpolated(value, differing, [wanted[axis] for axis in differing])
    (axis,) = differing[:1]
    for prefix in range(3) if len(differing) == 1 else ():
        side, new = (_side(length - prefix) for length in (value.shape[axis], wanted[axis]))
        if side and new:
            head, grid = value.narrow(axis, 0, prefix), value.narrow(axis, prefix, side**2)
            square = grid.reshape(*value.shape[:axis], side, side, *value.shape[axis + 1 :])
            resized = _interpolated(square, [axis, axis + 1], [new, new]).flatten(axis, axis + 1)
            return torch.cat([head, resized], axis)
    return value


def _side(length: int) -> int:
    """The side of a square of so many positions; 0 if they are none."""
    side = math.isqrt(max(0, length))
    return side if side**2 == length else 0


def _interpolated(value: torch.Tensor, axes: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """`value` with the two `axes` resized."""
    maps = value.movedim(tuple(axes), (-2, -1))
    flat = maps.reshape(1, -1, *maps.shape[-2:]).float()
    resized = functional.interpolate(flat, size=tuple(sizes), mode="bicubic", align_corners=False)
    return resized.reshape(*maps.shape[:-2], *sizes).movedim((-2, -1), tuple(axes)).to(value.dtype).contiguous()


def _can_be_resampled(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> bool:
    """Whether both tables are of square maps and have the same heads."""
    if wanted is None or len(shape) != 2 or shape[0] != wanted[0]:
        return False
    return all(round(size**0.5) ** 2 == size for size in (shape[1], wanted[1]))
