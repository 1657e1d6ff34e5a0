"""FastViT (Vasu et al. 2023), including MobileCLIP's image encoders: branches that become one convolution when
deployed.

Training uses several branches with a batch norm each, the deployed model one convolution with the same output. The MLPs
of all blocks are cut, and heads where the last stages attend; merged layers stay whole. No module depends on the image
size, so every size is supported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.models import reparameterize_model
from timm.models.fastvit import Attention, ConvMlp, FastVit
from torch import nn
from torch.nn import functional

from vitsearch.backbones.plain import slice_qkv
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch

STEM_STRIDE = 4


class FastViTFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "fastvit"
    modules = ("fastvit",)
    why_no_heads = "has no attention whose heads could be removed"
    why_no_ffn = "has an MLP of another layout, so its channels cannot be removed"
    why_no_depth = (
        "has fewer than two attention blocks, and vitsearch has no importance score for others, so none can be dropped"
    )
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return {}

    def tokens(self, model: nn.Module, resolution: int) -> int:
        stages: Any = cast(FastVit, model).stages
        stride = STEM_STRIDE
        for stage in stages:
            stride *= 1 if isinstance(stage.downsample, nn.Identity) else 2
            if isinstance(stage.blocks[0].token_mixer, Attention):
                return math.ceil(resolution / stride) ** 2
        return 0

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(FastVit, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_unit(name, block) for name, block in _blocks(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, module = _blocks(model)[block]
        attention: Any = module.token_mixer
        if not isinstance(attention, Attention) or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        slice_qkv(attention, attention.head_dim, kept)
        attention.__class__ = FewerHeads

    def deployable(self, model: nn.Module) -> nn.Module:
        return cast(nn.Module, reparameterize_model(model.eval()))


class FewerHeads(Attention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, channels, height, width)."""
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).reshape(batch, height * width, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused_attn:
            dropped = self.attn_drop.p if self.training else 0.0
            attended = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        else:
            attended = self.attn_drop((q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1)) @ v
        projected = self.proj(attended.transpose(1, 2).reshape(batch, height * width, self.proj.in_features))
        mapped: torch.Tensor = self.proj_drop(projected).transpose(1, 2).reshape(batch, channels, height, width)
        return mapped


def _blocks(model: nn.Module) -> list[tuple[str, Any]]:
    stages: Any = cast(FastVit, model).stages
    return [
        (f"stages.{number}.blocks.{index}", block)
        for number, stage in enumerate(stages)
        for index, block in enumerate(stage.blocks)
    ]


def _unit(name: str, block: Any) -> BlockUnits:
    if isinstance(block, nn.Identity):
        return BlockUnits.dropped(name)
    attention: Any = block.token_mixer if isinstance(block.token_mixer, Attention) else None
    mlp: Any = block.mlp if type(block.mlp) is ConvMlp else None
    return BlockUnits(
        name,
        attention.num_heads if attention else 0,
        attention.head_dim if attention else 0,
        attention.proj if attention else None,
        mlp.fc1 if mlp else None,
        mlp.fc2 if mlp else None,
        proj_branch=Branch(block.norm, block.mlp, at_input=True) if attention else None,
        fc2_branch=Branch(block.mlp, block),
        removable=attention is not None,
    )
