"""MobileViT, v1 and v2 (Mehta and Rastegari 2022): inverted residuals, and transformers on unfolded maps.

The heads of v1's transformers, which are timm's plain attention, are cut, and the hidden channels of every MLP and of
every inverted residual (expand 1x1, depthwise, project 1x1). v2 attends with one head. The model interpolates a map
that its patches do not divide, so every size is supported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

from timm.models.byobnet import BottleneckBlock, ByobNet
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block
from torch import nn

from vitsearch.backbones.plain import block_units, slice_attention
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.core.image_size import ImageSize
from vitsearch.models.backbone import BlockUnits, Branch

FIRST_TRANSFORMER_STRIDE = 8


class MobileViTFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "mobilevit"
    modules = ("mobilevit",)
    why_no_heads = "attends with a single head (linear self-attention), which cannot be removed"
    why_no_ffn = "has no hidden channels that could be removed"
    why_no_depth = (
        "attends with a single head, for which vitsearch has no importance score, so its blocks cannot be ranked"
    )
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def resolution_arguments(self, name: str, size: ImageSize) -> dict[str, Any]:
        return {}

    def tokens(self, model: nn.Module, resolution: ImageSize) -> int:
        first = next(block for _, block in _blocks(model) if isinstance(block, MobileVitBlock | MobileVitV2Block))
        sides = zip(resolution.sides, first.patch_size, strict=True)
        return math.prod(math.ceil(pixels / (FIRST_TRANSFORMER_STRIDE * int(patch))) for pixels, patch in sides)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(Any, model).stages[-1][-1].conv_proj.conv.out_channels)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(unit for name, block in _blocks(model) for unit in _units(name, block))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name = self.units(model)[block].name
        slice_attention(name, getattr(model.get_submodule(name), "attn", None), kept)


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for index, stage in enumerate(cast(ByobNet, model).stages):
        for name, block in stage.named_children():
            yield f"stages.{index}.{name}", block


def _units(name: str, block: Any) -> Iterator[BlockUnits]:
    if isinstance(block, MobileVitBlock | MobileVitV2Block):
        for index, layer in cast(nn.Module, block.transformer).named_children():
            yield block_units(f"{name}.transformer.{index}", layer)
    elif _is_inverted_residual(block):
        expand, project = block.conv1_1x1.conv, block.conv3_1x1
        branch = None if block.shortcut is None else Branch(block, block)
        yield BlockUnits(name, 0, 0, None, expand, project.conv, fc2_norm=project.bn, fc2_branch=branch)


def _is_inverted_residual(block: Any) -> bool:
    """Whether hidden channels are independent: no squeeze and excitation, and a depthwise middle."""
    if type(block) is not BottleneckBlock or type(block.attn) is not nn.Identity:
        return False
    middle = block.conv2_kxk.conv
    return bool(middle.groups == middle.in_channels and type(block.conv2b_kxk) is nn.Identity)
