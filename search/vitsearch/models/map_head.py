"""Models that give logits for each position of a map instead of for the image.

timm's own head is applied to each position alone: its pooling then sees one position, so any head fits, with its norms
and its classifier, and the names of modules and weights stay. The map is resized to a quarter of the input.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

SHARE = 4
"""Pixels of the input for each position of the output, in height and width."""


def give_maps(model: nn.Module) -> None:
    """Make a model of timm give maps, in place.

    Args:
        model: It gives logits (batch, classes); afterwards (batch, classes, height / 4, width / 4).
    """
    model.__class__ = _mapping(type(model))


@cache
def _mapping(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of models of a class that give maps."""

    class Mapping(kind):  # type: ignore[misc,valid-type]
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            positions = _positions(self, self.forward_features(images), images)
            count, height, width, channels = positions.shape
            logits = self.forward_head(_alone(self, positions.reshape(-1, channels)))
            maps = logits.reshape(count, height, width, -1).permute(0, 3, 1, 2)
            size = [side // SHARE for side in images.shape[2:]]
            if list(maps.shape[2:]) == size:
                return maps.contiguous()
            return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    Mapping.__name__, Mapping.__qualname__ = kind.__name__, kind.__qualname__
    return Mapping


def why_no_map(model: nn.Module, images: torch.Tensor) -> str | None:
    """Say why a model cannot give maps.

    Args:
        model: Of timm.
        images: One image or more, (batch, channels, height, width).

    Returns:
        The reason, which completes "NAME ..."; None if it can.
    """
    timm_model: Any = model
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        return "does not give its features apart from its head"
    features = timm_model.forward_features(images)
    if not torch.is_tensor(features) or features.ndim not in (3, 4):
        return "does not give one map of features"
    if features.ndim == 3 and _grid(model, features.shape[1], images) is None:
        return f"gives {features.shape[1]} features of an image, which are no map"
    return None


def _positions(model: nn.Module, features: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The features of the last map, (batch, height, width, channels)."""
    if features.ndim == 4:
        return features if _is_channels_last(model) else features.permute(0, 2, 3, 1)
    grid = _grid(model, features.shape[1], images)
    assert grid is not None, "see why_no_map"
    return features[:, features.shape[1] - grid[0] * grid[1] :].unflatten(1, grid)


def _alone(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Each position (rows, channels) as the features of an image that has no other. Among tokens it stands for those in
    front, too: heads read the first ones, or the mean of the rest."""
    prefix: Any = getattr(model, "num_prefix_tokens", None)
    if prefix is not None:
        return rows[:, None].expand(-1, prefix + 1, -1)
    return rows[:, None, None] if _is_channels_last(model) else rows[:, :, None, None]


def _is_channels_last(model: nn.Module) -> bool:
    return str(getattr(model, "output_fmt", "NCHW")) == "NHWC"


def _grid(model: nn.Module, tokens: int, images: torch.Tensor) -> tuple[int, int] | None:
    """Rows and columns of the patches of images of this size; None where the tokens are none."""
    embedding = getattr(model, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    if patch is None:
        return None
    height, width = (side // size for side, size in zip(images.shape[2:], patch, strict=True))
    return (height, width) if height * width + int(getattr(model, "num_prefix_tokens", 0)) == tokens else None
