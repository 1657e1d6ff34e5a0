"""LeViT of timm (Graham et al. 2021), with linear layers (`levit_*`) or 1x1 convolutions (`levit_conv_*`).

Queries and keys are narrower than values: `qkv` is laid out `[heads, k | k | v]`, and each head has a row of
position biases. Between two stages an attention with fewer queries than keys (`kv` `[heads, k | v]`, `q`
`[heads, k]`) shrinks the map; it and its MLP are cut like blocks. Every layer has a batch norm behind it and no
bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from timm.models.levit import Attention, AttentionDownsample, ConvNorm, Levit, LevitMlp, LinearNorm
from torch import nn

from vitsearch.backbones.tables import resample_biases
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.models.surgery import head_columns, keep_columns, keep_norm_channels, keep_of_table, keep_rows


class LevitFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "levit"
    modules = ("levit",)
    why_no_heads = "has an attention of another layout, so its heads cannot be removed"
    why_no_ffn = "has an MLP of another layout, so its channels cannot be removed"
    why_no_tokens = "shrinks its grid of tokens between the stages and needs all of it, so none can be pruned"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        stride = int(cast(Any, self.unbuilt(name)).stem.stride)
        if pixels > 0 and pixels % stride == 0:
            return None
        below = pixels // stride * stride
        near = " and ".join(str(size) for size in (below, below + stride) if size > 0)
        return f"{pixels} pixels are not a multiple of the stride {stride} of the stem of {name} (nearest: {near})"

    def recipe(self, name: str, resolution: int | None = None) -> BuildRecipe:
        return replace(super().recipe(name, resolution), resample=resample_biases)

    def tokens(self, model: nn.Module, resolution: int) -> int:
        height, width = _attention(model, 0).resolution
        return int(height * width)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(Levit, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_units(*part) for part in _parts(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        attention = _attention(model, block)
        if type(attention) not in (Attention, AttentionDownsample) or not kept:
            wrong = f"cannot keep heads {list(kept)} of a {type(attention).__name__}"
            raise PlanError(f"{_parts(model)[block][0]}: {wrong}")
        key, value = attention.key_dim, attention.val_dim
        if isinstance(attention, AttentionDownsample):
            _keep_rows(attention.kv, head_columns(kept, key + value))
            _keep_rows(cast(Any, attention.q).ln, head_columns(kept, key))
        else:
            _keep_rows(attention.qkv, head_columns(kept, 2 * key + value))
        keep_columns(attention.proj.ln.linear, head_columns(kept, value))
        attention.attention_biases = keep_of_table(attention.attention_biases, 0, kept)
        attention.attention_bias_cache = {}
        attention.num_heads = len(kept)
        attention.key_attn_dim, attention.val_attn_dim = len(kept) * key, len(kept) * value


def _parts(model: nn.Module) -> list[tuple[str, Any, Any, Any]]:
    """Name, attention, MLP and whole module of each block and of each downsampling between stages, in order."""
    parts: list[tuple[str, Any, Any, Any]] = []
    stages: Any = cast(Levit, model).stages
    for number, stage in enumerate(stages):
        if not isinstance(stage.downsample, nn.Identity):
            down = stage.downsample
            parts.append((f"stages.{number}.downsample", down.attn_downsample, down.mlp, down))
        for index, block in enumerate(stage.blocks):
            parts.append(
                (f"stages.{number}.blocks.{index}", getattr(block, "attn", None), getattr(block, "mlp", None), block)
            )
    return parts


def _attention(model: nn.Module, block: int) -> Any:
    return _parts(model)[block][1]


def _units(name: str, attention: Any, mlp: Any, whole: Any) -> BlockUnits:
    if isinstance(whole, nn.Identity):
        return BlockUnits.dropped(name)
    shrinks = isinstance(attention, AttentionDownsample)  # without a shortcut
    heads = attention if type(attention) in (Attention, AttentionDownsample) else None
    ffn = mlp if type(mlp) is LevitMlp else None
    return BlockUnits(
        name,
        heads.num_heads if heads else 0,
        heads.val_dim if heads else 0,
        heads.proj.ln.linear if heads else None,
        ffn.ln1.linear if ffn else None,
        ffn.ln2.linear if ffn else None,
        heads.proj.ln.bn if heads else None,
        ffn.ln2.bn if ffn else None,
        proj_branch=None if shrinks else Branch(attention, mlp, at_input=True),
        fc2_branch=Branch(mlp, whole),
        removable=not shrinks,
    )


def _keep_rows(layer: LinearNorm | ConvNorm, kept: Sequence[int]) -> None:
    keep_rows(layer.linear, kept)
    keep_norm_channels(layer.bn, kept)
