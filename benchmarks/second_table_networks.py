"""The networks of the second table, of two families that no prior of ours was fitted on: a small ConvNeXt and a LeViT.

{python: "second_table_networks:convnext", name: convnext, resolution: 32}
"""

from __future__ import annotations

from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from timm.models.levit import Levit
from torch import nn

WIDTHS, DEPTHS = (32, 64, 128), (1, 2, 2)
"""Of the ConvNeXt, on maps of a quarter, an eighth and a sixteenth of the image's side."""


def convnext(classes: int, channels: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(channels, WIDTHS[0], 4, stride=4), LayerNorm2d(WIDTHS[0])]
    for before, width, depth in zip((0, *WIDTHS), WIDTHS, DEPTHS, strict=False):
        if before:
            layers += [LayerNorm2d(before), nn.Conv2d(before, width, 2, stride=2)]
        layers += [ConvNeXtBlock(width) for _ in range(depth)]
    head = (nn.AdaptiveAvgPool2d(1), LayerNorm2d(WIDTHS[-1]), nn.Flatten(), nn.Linear(WIDTHS[-1], classes))
    return nn.Sequential(*layers, *head)


def levit(classes: int, channels: int, resolution: int) -> nn.Module:
    """With a stem of stride 8, so that an image of 32 pixels has 16 tokens."""
    shape = {"embed_dim": (64, 96), "key_dim": 16, "depth": (3, 3), "num_heads": (4, 6)}
    made: nn.Module = Levit(resolution, channels, classes, **shape, stem_type="s8")
    return made
