"""Plain vision transformers of timm: ViT, DeiT, distilled DeiT (two prefix tokens), DeiT-III.

A block is ``x + proj(attention(qkv(norm(x))))`` then ``x + fc2(act(fc1(norm(x))))`` (Dosovitskiy et
al. 2021). ``qkv`` is laid out ``[3, heads, head_dim]``, so a head owns three runs of its rows and
one run of the columns of ``proj``. Variants of timm's two modules whose attention or MLP is built
otherwise are claimed, built and measured; ``supports`` says what of them cannot be cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import timm
import torch
from timm.layers import Attention, Mlp, PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitsearch.backbones.base import BlockUnits, Built, ModelSpec
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.backbones.slicing import head_columns, keep_columns, keep_rows
from vitsearch.backbones.weights import Recipe, build, weights_path
from vitsearch.effect import Anatomy, BlockAnatomy
from vitsearch.errors import PlanError, WeightsError

MODULES = ("vision_transformer", "deit")


@dataclass(frozen=True)
class Layout:
    """What ``supports`` needs to know of a variant; ``patch`` is 0 where its stem is not plain patches."""

    native: int
    patch: int
    cuts_heads: bool
    cuts_ffn: bool
    distilled: bool


class ViTFamily:
    """See :class:`vitsearch.backbones.base.Backbone`."""

    family = "vit"

    def claims(self, name: str) -> bool:
        if name in BUILTIN:
            return BUILTIN[name].family == self.family
        return bool(timm.models.is_model_in_modules(name.partition(".")[0], MODULES))

    def variants(self) -> tuple[str, ...]:
        ours = [name for name, base in BUILTIN.items() if base.family == self.family]
        return tuple(sorted({*ours, *(n for module in MODULES for n in timm.list_models(module=module))}))

    def native_resolution(self, name: str) -> int:
        return layout(name).native

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        found = layout(name)
        if knob == "weights":
            return _weights(name, str(value))
        if knob == "resolution":
            return _resolution(name, found, int(value))
        if knob == "window_size":
            return None if value is None else f"{name} attends over the whole image and has no windows"
        if knob == "head_pruning_ratio" and value and not found.cuts_heads:
            return f"{name} has an attention that is not plain (qkv, proj), so its heads cannot be removed"
        if knob == "ffn_pruning_ratio" and value and not found.cuts_ffn:
            return f"{name} has an MLP that is not plain (fc1, fc2), so its channels cannot be removed"
        if knob == "token_pruning_ratio" and value:
            return "token pruning is not part of this version"
        if knob == "distillation" and value == "token" and not found.distilled:
            return f"{name} has no distillation token; the deit_*_distilled_* models have one"
        return None

    def build(self, spec: ModelSpec) -> Built:
        reason = self.supports(spec.backbone, "resolution", spec.resolution)
        if reason is not None:
            raise PlanError(reason)
        plain = spec.resolution == layout(spec.backbone).native and spec.backbone not in BUILTIN
        return build(spec, _recipe(spec.backbone, {} if plain else {"img_size": spec.resolution}))

    def anatomy(self, model: nn.Module, spec: ModelSpec) -> Anatomy:
        vit = cast(VisionTransformer, model)
        tokens = vit.patch_embed.num_patches + vit.num_prefix_tokens
        blocks = tuple(BlockAnatomy(u.name, u.heads, u.head_dim, u.ffn_width) for u in self.units(model))
        return Anatomy(spec.backbone, spec.resolution, vit.embed_dim, tokens, blocks)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        blocks = cast(VisionTransformer, model).blocks
        return tuple(_units(f"blocks.{index}", block) for index, block in enumerate(blocks))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        attention = cast(VisionTransformer, model).blocks[block].attn
        if not _plain_attention(attention) or not kept:
            raise PlanError(f"blocks.{block}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        columns = head_columns(kept, attention.head_dim)
        keep_rows(attention.qkv, [part * attention.attn_dim + c for part in range(3) for c in columns])
        keep_columns(attention.proj, columns)
        attention.num_heads = len(kept)
        attention.attn_dim = len(columns)


@cache
def layout(name: str) -> Layout:
    """Read off a model built without memory for its weights (torch's meta device)."""
    with torch.device("meta"):
        model = cast(VisionTransformer, _recipe(name, {}).create())
    units = [_units("", block) for block in model.blocks]
    embed: Any = model.patch_embed
    patch = embed.patch_size if type(embed) is PatchEmbed else (0, 0)
    height, width = embed.img_size
    return Layout(
        native=int(height),
        patch=patch[0] if patch[0] == patch[1] and height == width else 0,
        cuts_heads=all(unit.heads > 0 for unit in units),
        cuts_ffn=all(unit.ffn_width > 0 for unit in units),
        distilled=isinstance(model, VisionTransformerDistilled),
    )


def _recipe(name: str, arguments: dict[str, Any]) -> Recipe:
    if name in BUILTIN:
        base = BUILTIN[name]
        return Recipe(base.architecture, {"img_size": base.resolution, **base.arguments, **arguments})
    return Recipe(name, arguments)


def _units(name: str, block: nn.Module) -> BlockUnits:
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    heads = attention if _plain_attention(attention) else None
    ffn = mlp if _plain_mlp(mlp) else None
    return BlockUnits(
        name,
        heads.num_heads if heads else 0,
        heads.head_dim if heads else 0,
        heads.proj if heads else None,
        ffn.fc1 if ffn else None,
        ffn.fc2 if ffn else None,
    )


def _plain_attention(found: Any) -> bool:
    """A norm over all heads, or a gate, would make what one head gives depend on the others."""
    return type(found) is Attention and type(found.norm) is nn.Identity and found.gate is None


def _plain_mlp(found: Any) -> bool:
    return type(found) is Mlp and type(found.norm) is nn.Identity


def _resolution(name: str, found: Layout, pixels: int) -> str | None:
    if pixels == found.native:
        return None
    if not found.patch:
        return f"{name} takes {found.native} pixels only: its stem is not a grid of square patches"
    if pixels > 0 and pixels % found.patch == 0:
        return None
    below = pixels // found.patch * found.patch
    near = " and ".join(str(size) for size in (below, below + found.patch) if size > 0)
    return f"{pixels} pixels are not a multiple of the patch size {found.patch} of {name} ({near} would be)"


def _weights(name: str, weights: str) -> str | None:
    if weights == "none":
        return None
    if weights == "hub":
        if name in BUILTIN:
            return f"{name} ships with vitsearch and is not on the hub: use builtin"
        return None if timm.models.is_model_pretrained(name) else f"timm has no pretrained weights for {name}"
    try:
        weights_path(ModelSpec(name, weights, 0, 0))
    except WeightsError as error:
        return str(error)
    return None
