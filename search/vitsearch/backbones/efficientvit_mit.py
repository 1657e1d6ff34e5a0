"""EfficientViT of MIT (Cai et al. 2023): inverted residuals, and linear attention at several scales.

The heads of LiteMLA are cut, and the hidden channels of the head and of inverted residuals, whose middle is depthwise
(MBConv) or absent (FusedMBConv). No module depends on the image size, so every size is supported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from timm.models.efficientvit_mit import EfficientVit, EfficientVitBlock, FusedMBConv, LiteMLA, MBConv
from torch import nn

from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.models.surgery import keep_columns, keep_rows

STEM_STRIDE = 2
STAGE_STRIDE = 2


class EfficientViTMITFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "efficientvit_mit"
    modules = ("efficientvit_mit",)
    why_no_heads = "has no attention whose heads could be removed"
    why_no_ffn = "has no hidden channels that could be removed"
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def resolution_arguments(self, name: str, size: ImageSize) -> dict[str, Any]:
        return {}

    def tokens(self, model: nn.Module, resolution: ImageSize) -> int:
        stages = cast(EfficientVit, model).stages
        attends = [any(isinstance(block, EfficientVitBlock) for block in stage.blocks) for stage in stages]
        stride = STEM_STRIDE * STAGE_STRIDE ** (attends.index(True) + 1)
        return math.prod(math.ceil(side / stride) for side in resolution.sides)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(Any, model).head.in_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        head = cast(Any, model).head
        last = BlockUnits("head", 0, 0, None, head.in_conv.conv, head.classifier[0])
        return (*(_unit(name, block) for name, block in _blocks(model)), last)

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        unit = self.units(model)[block]
        if not unit.heads or not kept:
            raise PlanError(f"{unit.name}: cannot keep heads {list(kept)} of {unit.heads}")
        _slice_attention(cast(Any, model.get_submodule(unit.name)).context_module.main, unit, kept)


def _blocks(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for index, stage in enumerate(cast(EfficientVit, model).stages):
        for name, block in stage.blocks.named_children():
            yield f"stages.{index}.blocks.{name}", block


def _unit(name: str, block: Any) -> BlockUnits:
    if isinstance(block, nn.Identity):
        return BlockUnits.dropped(name)
    if not isinstance(block, EfficientVitBlock):
        fc1, fc2, fc2_norm = _hidden(block.main)
        return BlockUnits(name, 0, 0, None, fc1, fc2, fc2_norm=fc2_norm, fc2_branch=_branch(block))
    attention: Any = cast(Any, block.context_module).main
    fc1, fc2, fc2_norm = _hidden(cast(Any, block.local_module).main)
    runs = 1 + len(attention.aggreg)
    heads, proj = _heads(attention), attention.proj
    units = BlockUnits(name, heads, runs * attention.dim, proj.conv, fc1, fc2, proj.norm, fc2_norm, runs)
    attends, mixes = _branch(block.context_module), _branch(block.local_module)
    return replace(units, proj_branch=attends, fc2_branch=mixes, removable=True)


def _branch(residual: Any) -> Branch | None:
    return None if getattr(residual, "shortcut", None) is None else Branch(residual, residual)


def _hidden(block: Any) -> tuple[Any, Any, Any]:
    """The layer that makes the hidden channels, the one that reads them, and its norm; `None` for other blocks."""
    if type(block) is MBConv:
        return block.inverted_conv.conv, block.point_conv.conv, block.point_conv.norm
    if type(block) is FusedMBConv:
        return block.spatial_conv.conv, block.point_conv.conv, block.point_conv.norm
    return None, None, None


def _heads(attention: LiteMLA) -> int:
    return int(cast(Any, attention.qkv).conv.out_channels // (3 * attention.dim))


def _slice_attention(attention: Any, unit: BlockUnits, kept: Sequence[int]) -> None:
    """`qkv` and its aggregates are laid out `[heads, 3, dim]`: a head owns one run of their rows."""
    width = 3 * attention.dim
    rows = [head * width + row for head in kept for row in range(width)]
    keep_rows(attention.qkv.conv, rows)
    for depthwise, grouped in attention.aggreg:
        _keep_groups(depthwise, rows, groups=len(rows))
        _keep_groups(grouped, rows, groups=3 * len(kept))
    keep_columns(attention.proj.conv, unit.head_columns(kept))


def _keep_groups(convolution: nn.Conv2d, rows: Sequence[int], groups: int) -> None:
    """Keep `rows`, which are whole groups, each as wide at its input as at its output."""
    keep_rows(convolution, rows)
    convolution.in_channels, convolution.groups = len(rows), groups
