"""The plain vision transformer as timm builds it: ViT, DeiT (distilled too) and DeiT-III.

Dosovitskiy et al. 2021; Touvron et al. 2021 and 2022. Attention has the layout ``[q|k|v, head, dim]``
in the rows of ``qkv`` and ``[head, dim]`` in the columns of ``proj``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.layers import Attention, Mlp
from timm.models import is_model_in_modules
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitsearch.backbones.base import BlockUnits, Built, ModelSpec
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.backbones.weights import create
from vitsearch.effect import Anatomy, BlockAnatomy

MODULES = ("vision_transformer", "deit")
PRECISIONS = ("fp32", "int8_dynamic")


class ViTFamily:
    """Plain ViTs; those whose blocks are not timm's ``Attention`` and ``Mlp`` cannot be cut and say so."""

    family = "vit"

    def claims(self, name: str) -> bool:
        base = name.partition(".")[0]
        return name in BUILTIN or (timm.is_model(base) and is_model_in_modules(base, MODULES))

    def variants(self) -> Sequence[str]:
        return [*BUILTIN, *timm.list_models(module="vision_transformer"), *timm.list_models(module="deit")]

    def native_resolution(self, name: str) -> int:
        if name in BUILTIN:
            return BUILTIN[name].resolution
        return int(timm.get_pretrained_cfg_value(name, "input_size")[-1])

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        if not self.claims(name):
            return f"{name} is no plain ViT"
        match knob:
            case "resolution":
                patch = _patch(name)
                return None if value % patch == 0 else f"{value} is no multiple of the patch size {patch}"
            case "window_size":
                return "plain ViTs attend globally and have no windows"
            case "head_pruning_ratio" | "ffn_pruning_ratio":
                return None if value == 0 else _uncuttable(name, knob)
            case "token_pruning_ratio":
                return None if value == 0 else "token pruning is not supported yet"
            case "quantization":
                return None if value in PRECISIONS else f"this version quantizes to {', '.join(PRECISIONS)}"
            case "weights":
                known = value != "builtin" or name in BUILTIN
                return None if known else f"there are no builtin weights; builtin bases: {', '.join(BUILTIN)}"
        return None

    def build(self, spec: ModelSpec) -> Built:
        return create(spec, img_size=spec.resolution)

    def anatomy(self, model: nn.Module, spec: ModelSpec) -> Anatomy:
        vit = cast(VisionTransformer, model)
        tokens = vit.patch_embed.num_patches + vit.num_prefix_tokens
        blocks = tuple(
            BlockAnatomy(unit.name, unit.heads, unit.head_dim, unit.fc2.in_features) for unit in self.units(model)
        )
        return Anatomy(spec.backbone, spec.resolution, vit.embed_dim, tokens, blocks)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(
            BlockUnits(
                f"blocks.{index}",
                block.attn,
                block.attn.num_heads,
                block.attn.head_dim,
                block.attn.proj,
                block.mlp.fc1,
                block.mlp.fc2,
            )
            for index, block in enumerate(cast(VisionTransformer, model).blocks)
        )

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        attention = cast(Attention, cast(VisionTransformer, model).blocks[block].attn)
        columns = _columns(kept, attention.head_dim)
        rows = torch.cat([columns + part * attention.attn_dim for part in range(3)])
        attention.qkv = _linear(attention.qkv, rows=rows)
        attention.proj = _linear(attention.proj, columns=columns)
        attention.num_heads = len(kept)
        attention.attn_dim = len(kept) * attention.head_dim


def _columns(kept: Sequence[int], head_dim: int) -> torch.Tensor:
    return (torch.tensor(list(kept))[:, None] * head_dim + torch.arange(head_dim)).flatten()


def _linear(old: nn.Linear, rows: torch.Tensor | None = None, columns: torch.Tensor | None = None) -> nn.Linear:
    """A new layer with these rows (outputs) or columns (inputs) of the old one."""
    weight, bias = old.weight.data, old.bias.data if old.bias is not None else None
    if rows is not None:
        weight, bias = weight[rows], bias[rows] if bias is not None else None
    if columns is not None:
        weight = weight[:, columns]
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    new.weight = nn.Parameter(weight.clone())
    if bias is not None:
        new.bias = nn.Parameter(bias.clone())
    return new.train(old.training)


def _patch(name: str) -> int:
    if name in BUILTIN:
        return int(BUILTIN[name].arguments["patch_size"])
    return int(_skeleton(name).patch_embed.patch_size[0])


def _uncuttable(name: str, knob: str) -> str | None:
    if name in BUILTIN:
        return None
    block = _skeleton(name).blocks[0]
    if type(block) is not Block or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        return f"its blocks ({type(block).__name__}) are not the plain attention and MLP"
    if knob == "head_pruning_ratio" and not isinstance(block.attn.norm, nn.Identity):
        return "it normalises over all heads together, so no head can be cut exactly"
    if knob == "ffn_pruning_ratio" and not isinstance(block.mlp.norm, nn.Identity):
        return "it normalises over the whole FFN, so no channel can be cut exactly"
    return None


@lru_cache(maxsize=64)
def _skeleton(name: str) -> VisionTransformer:
    """The model without weights or memory, to look at."""
    with torch.device("meta"):
        return cast(VisionTransformer, timm.create_model(name.partition(".")[0], pretrained=False))
