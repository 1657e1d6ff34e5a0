"""Plain vision transformers of timm: ViT, DeiT, distilled DeiT (two prefix tokens), DeiT-III.

A block is `x + proj(attention(qkv(norm(x))))` then `x + fc2(act(fc1(norm(x))))` (Dosovitskiy et al. 2021).
Variants of timm's two modules with another attention or MLP belong to the family too: they are built and measured,
and `supports` gives the reason why parts of them cannot be cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitsearch.backbones import vit_stream
from vitsearch.backbones.plain import block_units, slice_attention
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.valid_sizes import are_multiples, nearest_multiples
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.backbones.weights_file import State
from vitsearch.compress import tokens
from vitsearch.core.image_size import ImageSize
from vitsearch.core.token_counts import position_problem
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Reader

NEEDS_CLASS_TOKEN = {
    "tome": "classifies by the mean of all tokens, which would ignore how many patches tome has merged into each",
    "dynamicvit": "classifies by the mean of all tokens, in training also of those that dynamicvit has dropped",
}


class ViTFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "vit"
    modules = ("vision_transformer", "deit")
    why_no_heads = "has an attention that is not plain (qkv, proj), so its heads cannot be removed"
    why_no_ffn = "has an MLP that is not plain (fc1, fc2), so its channels cannot be removed"
    why_no_embed = "has parts at its residual stream that are not timm's plain ones, so its channels cannot be removed"
    why_no_depth = "has blocks that are not timm's plain ones, so none can be dropped"
    why_no_tokens = "has blocks that are not timm's plain ones, so tokens cannot be dropped between their parts"

    def native_resolution(self, name: str) -> ImageSize:
        return ImageSize(*cast(Any, self.unbuilt(name)).patch_embed.img_size)

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        if knob in ("token_pruning_ratio", "token_pruning_method", "token_pruning_at") and value:
            return self._refused_tokens(name, knob, value)
        if knob == "embed_pruning_ratio" and value and vit_stream.can_be_cut(self.unbuilt(name)):
            return None
        return super().supports(name, knob, value)

    def _refused_tokens(self, name: str, knob: str, value: Any) -> str | None:
        vit = cast(VisionTransformer, self.unbuilt(name))
        if not all(map(tokens.is_plain_block, vit.blocks)):
            return f"{name} {self.why_no_tokens}"
        if knob == "token_pruning_method" and value in NEEDS_CLASS_TOKEN and not tokens.TokenLayout.of(vit).readers:
            return f"{name} {NEEDS_CLASS_TOKEN[value]}"
        reason = position_problem(value, len(vit.blocks)) if knob == "token_pruning_at" else None
        return None if reason is None else f"{name} {reason}"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        native, patch = self.native_resolution(name), self._patch(name)
        if size == native:
            return None
        if not patch:
            return f"{name} accepts only {native} pixels: its stem is not a grid of square patches"
        if are_multiples(size, patch):
            return None
        near = nearest_multiples(size, patch)
        return f"{size} pixels are not a multiple of the patch size {patch} of {name} (nearest: {near})"

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        return replace(super().recipe(name, resolution), resample_own=_resample_positions)

    def tokens(self, model: nn.Module, resolution: ImageSize) -> int:
        vit = cast(VisionTransformer, model)
        return int(vit.patch_embed.num_patches) + int(vit.num_prefix_tokens)

    def prefix_tokens(self, model: nn.Module) -> int:
        return int(cast(VisionTransformer, model).num_prefix_tokens)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(VisionTransformer, model).embed_dim)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        blocks = cast(VisionTransformer, model).blocks
        return tuple(block_units(f"blocks.{index}", block) for index, block in enumerate(blocks))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        slice_attention(f"blocks.{block}", cast(VisionTransformer, model).blocks[block].attn, kept)

    def slice_stream(self, model: nn.Module, kept: Sequence[int]) -> None:
        if not vit_stream.can_be_cut(model):
            raise PlanError(f"family {self.family}: a model that {self.why_no_embed}")
        vit_stream.keep(model, kept)

    def stream_readers(self, model: nn.Module) -> tuple[Reader, ...]:
        return tuple(vit_stream.readers(model))

    def _patch(self, name: str) -> int:
        """Side of a patch in pixels; 0 if the stem is not a grid of square patches."""
        embed: Any = cast(VisionTransformer, self.unbuilt(name)).patch_embed
        if type(embed) is not PatchEmbed:
            return 0
        (high, wide), (height, width) = embed.patch_size, embed.img_size
        return int(high) if high == wide and height == width else 0


def _resample_positions(state: State, model: nn.Module, old: ImageSize, new: ImageSize) -> State:
    """`state` with its positions interpolated from the grid of one size to that of another, as timm interpolates."""
    vit: Any = model
    if old == new or "pos_embed" not in state:
        return state
    was, now = (
        tuple(side // patch for side, patch in zip(size.sides, vit.patch_embed.patch_size, strict=True))
        for size in (old, new)
    )
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    return state | {"pos_embed": resample_abs_pos_embed(state["pos_embed"], now, was, prefix)}
