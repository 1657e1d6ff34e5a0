"""EdgeNeXt (Maaz et al. 2022): convolutions, and attention across channels (XCA) behind split depthwise ones.

A head of XCA attends among its own channels: it owns three runs of the rows of `qkv`, one run of the columns of
`proj`, and a temperature. The MLPs of both kinds of block are cut as well. No module depends on the image size, so
every size from 32 pixels on is supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.models.edgenext import CrossCovarianceAttn, EdgeNeXt, SplitTransposeBlock
from torch import nn
from torch.nn import functional

from vitsearch.backbones.plain import is_plain_mlp, slice_qkv
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.models.surgery import keep_of_table

STRIDE = 32


class EdgeNeXtFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "edgenext"
    modules = ("edgenext",)
    why_no_heads = "has no attention whose heads could be removed"
    why_no_ffn = "has an MLP that is not plain (fc1, fc2), so its channels cannot be removed"
    why_no_windows = "attends across channels and has no windows"
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        return None if pixels >= STRIDE else f"{name} needs at least {STRIDE} pixels: at {pixels} its last map is empty"

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return {}

    def tokens(self, model: nn.Module, resolution: int) -> int:
        stages: Any = cast(EdgeNeXt, model).stages
        attends = [any(isinstance(block, SplitTransposeBlock) for block in stage.blocks) for stage in stages]
        return int(resolution // (4 * 2 ** attends.index(True))) ** 2

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(EdgeNeXt, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_unit(name, block) for name, block in _blocks(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, module = _blocks(model)[block]
        attention: Any = getattr(module, "xca", None)
        if not isinstance(attention, CrossCovarianceAttn) or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        slice_qkv(attention, _head_dim(attention), kept)
        attention.temperature = keep_of_table(attention.temperature, 0, kept)
        attention.__class__ = FewerHeads


class FewerHeads(CrossCovarianceAttn):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 4, 1)
        q, k, v = qkv.unbind(0)
        similarity = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        attention = self.attn_drop((similarity * self.temperature).softmax(dim=-1))
        x = (attention @ v).permute(0, 3, 1, 2).reshape(batch, tokens, self.proj.in_features)
        output: torch.Tensor = self.proj_drop(self.proj(x))
        return output


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    stages: Any = cast(EdgeNeXt, model).stages
    return [
        (f"stages.{number}.blocks.{index}", block)
        for number, stage in enumerate(stages)
        for index, block in enumerate(stage.blocks)
    ]


def _unit(name: str, block: Any) -> BlockUnits:
    attention: Any = getattr(block, "xca", None)
    if isinstance(block, nn.Identity):
        return BlockUnits.dropped(name)
    mlp: Any = block.mlp if is_plain_mlp(block.mlp) else None
    shortcut = None if getattr(block, "shortcut_after_dw", False) else Branch(block, block)
    return BlockUnits(
        name,
        attention.num_heads if attention else 0,
        _head_dim(attention) if attention else 0,
        attention.proj if attention else None,
        mlp.fc1 if mlp else None,
        mlp.fc2 if mlp else None,
        proj_branch=Branch(block.norm_xca, block.norm, at_input=True) if attention else None,
        fc2_branch=shortcut,
        removable=shortcut is not None,
    )


def _head_dim(attention: Any) -> int:
    return int(attention.proj.in_features) // int(attention.num_heads)
