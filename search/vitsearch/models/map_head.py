"""Models that give logits for each position of a map instead of for the image.

timm's own head is applied to each position alone: its pooling then sees one position, so any head fits, with its norms
and its classifier, and the names of modules and weights stay. The map of the last stage is coarse, so each earlier
stage that is no finer than the output adds what a 1x1 convolution makes of its features (Long et al. 2015, "Fully
convolutional networks for semantic segmentation"). All maps are resized to a quarter of the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vitsearch.core.image_size import MAP_SHARE
from vitsearch.errors import first_line

SKIPS = "map_skips"
"""The attribute of a model that holds the convolutions, by the index of the stage that each one reads."""
_MAPPINGS: dict[type[nn.Module], type[nn.Module]] = {}
"""Classes of models that give maps, by those that they are made from."""


@torch.no_grad()
def give_maps(model: nn.Module, images: torch.Tensor) -> None:
    """Make a model of timm give maps, in place.

    Args:
        model: In evaluation mode. It gives logits (batch, classes), afterwards (batch, classes, height / 4, width / 4).
            The convolutions that it gains add nothing until they are trained.
        images: One image of zeros, (1, channels, height, width), of the size that the model is for.
    """
    timm_model: Any = model
    skips = nn.ModuleDict()
    for index, features in _finer_stages(timm_model, images).items():
        skips[str(index)] = _silent(features.shape[1], timm_model.num_classes)
    model.add_module(SKIPS, skips)
    model.__class__ = _mapping(type(model))


def gives_maps(model: nn.Module) -> bool:
    """Whether `give_maps` was called for a model."""
    return hasattr(model, SKIPS)


def _mapping(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of models of a class that give maps."""
    parent: Any = kind
    if parent in _MAPPINGS:
        return _MAPPINGS[parent]

    class Mapping(parent):  # type: ignore[misc]
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            size = _output_size(images)
            features, stages = _features(self, images)
            positions = _positions(self, features, images)
            count, height, width, channels = positions.shape
            logits = self.forward_head(_alone(self, positions.reshape(-1, channels)))
            maps = _resized(logits.reshape(count, height, width, -1).permute(0, 3, 1, 2), size)
            for index, skip in self.map_skips.items():
                maps = maps + _resized(skip(stages[int(index)]), size)
            return maps.contiguous()

    Mapping.__name__, Mapping.__qualname__ = parent.__name__, parent.__qualname__
    return _MAPPINGS.setdefault(parent, Mapping)


def _features(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The features that the head reads, and those of all stages where the model has convolutions for them."""
    if not len(model.map_skips):
        return model.forward_features(images), []
    features, stages = model.forward_intermediates(images)
    return features, stages


def _finer_stages(model: Any, images: torch.Tensor) -> dict[int, torch.Tensor]:
    """The features of the last stage of each size between that of the output and that of the last map, without both
    ends where the last map is as large, by its index."""
    if not hasattr(model, "forward_intermediates"):
        return {}
    _, stages = model.forward_intermediates(images)
    most, least = _output_size(images), list(stages[-1].shape[2:])
    finer = {
        tuple(features.shape[2:]): (index, features)
        for index, features in enumerate(stages)
        if all(low < side <= high for low, side, high in zip(least, features.shape[2:], most, strict=True))
    }
    return dict(finer.values())


def _output_size(images: torch.Tensor) -> list[int]:
    return [side // MAP_SHARE for side in images.shape[2:]]


def _resized(maps: torch.Tensor, size: list[int]) -> torch.Tensor:
    if list(maps.shape[2:]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def why_no_map(model: nn.Module, images: torch.Tensor) -> str | None:
    """Say why a model cannot give maps.

    Args:
        model: Of timm.
        images: One image, (1, channels, height, width), on the device of the model.

    Returns:
        The reason, which completes "NAME ..."; None if it can.
    """
    timm_model: Any = model
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        return "does not give its features apart from its head"
    try:
        features = timm_model.forward_features(images)
        if not torch.is_tensor(features) or features.ndim not in (3, 4):
            return "does not give one map of features"
        if features.ndim == 3 and _grid(model, features.shape[1], images) is None:
            return f"gives {features.shape[1]} features of an image, which are no map"
        positions = _positions(model, features, images)
        timm_model.forward_head(_alone(model, positions.flatten(0, 2)[:1]))
        _finer_stages(timm_model, images)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        return f"has features or a head that cannot be read for each position ({first_line(error)})"
    return None


def with_classes(model: nn.Module, classes: int) -> None:
    """Replace the convolutions of a model that gives maps by new ones for another number of classes, in place."""
    timm_model: Any = model
    for index, skip in timm_model.map_skips.items():
        timm_model.map_skips[index] = _silent(skip.in_channels, classes)


def _silent(channels: int, classes: int) -> nn.Conv2d:
    """A 1x1 convolution that gives zeros until it is trained."""
    skip = nn.Conv2d(channels, classes, 1, bias=False)
    nn.init.zeros_(skip.weight)
    return skip


def _positions(model: nn.Module, features: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The features of the last map, (batch, height, width, channels)."""
    if features.ndim == 4:
        return features if _is_channels_last(model) else features.permute(0, 2, 3, 1)
    grid = _grid(model, features.shape[1], images)
    assert grid is not None, "see why_no_map"
    count, tokens, channels = features.shape
    return features[:, tokens - grid[0] * grid[1] :].reshape(count, *grid, channels)


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
