"""EfficientFormerV2 (Li et al. 2023): depthwise MLPs everywhere, attention in the last two stages.

The heads of an attention inside a stage are mixed: one convolution mixes their logits, another their attentions. So
only the output side of a head is cut (its values, its row of the second convolution, its columns of `proj`); its
queries and keys are read by the other heads and stay. The attention of a downsampling has no such mixing: there a
head is cut whole. Position biases fit one map and are interpolated to others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from timm.models.efficientformer_v2 import Attention2d, Attention2dDownsample, EfficientFormerV2
from torch import nn

from vitsearch.backbones.tables import resample_biases
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.valid_sizes import are_multiples, nearest_multiples
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.structure.head_rules import rule_for

STRIDE = 32
FIRST_ATTENTION_STRIDE = 32


class EfficientFormerV2Family(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "efficientformer_v2"
    modules = ("efficientformer_v2",)
    why_no_heads = "has an attention of another layout, so its heads cannot be removed"
    why_no_ffn = "has an MLP of another layout, so its channels cannot be removed"
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        """The attention of the third stage halves its map and doubles it again, so the map must be even."""
        if are_multiples(size, STRIDE):
            return None
        near = nearest_multiples(size, STRIDE)
        return f"{size} pixels are not a multiple of {STRIDE}, the stride of the last map of {name} (nearest: {near})"

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        return replace(super().recipe(name, resolution), resample=resample_biases, resample_own=resample_biases)

    def tokens(self, model: nn.Module, resolution: ImageSize) -> int:
        return math.prod(math.ceil(side / FIRST_ATTENTION_STRIDE) for side in resolution.sides)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(EfficientFormerV2, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_unit(*part) for part in _parts(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, attention, _, _ = _parts(model)[block]
        if not isinstance(attention, Attention2d | Attention2dDownsample) or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        rule = rule_for(attention)
        assert rule is not None
        rule.keep(attention, kept)


def _parts(model: nn.Module) -> list[tuple[str, Any, Any, Any]]:
    """Name, attention, MLP and whole module of each block and of each attending downsampling, in order."""
    return list(_named_parts(cast(EfficientFormerV2, model).stages))


def _named_parts(stages: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    for number, stage in enumerate(stages):
        down = getattr(stage.downsample, "attn", None)
        if down is not None:
            yield f"stages.{number}.downsample", down, None, stage.downsample
        for index, block in enumerate(stage.blocks):
            yield (
                f"stages.{number}.blocks.{index}",
                getattr(block, "token_mixer", None),
                getattr(block, "mlp", None),
                block,
            )


def _unit(name: str, attention: Any, mlp: Any, block: Any) -> BlockUnits:
    return BlockUnits(
        name,
        attention.dh // attention.d if attention is not None else 0,
        attention.d if attention is not None else 0,
        attention.proj.conv if attention is not None else None,
        mlp.fc1.conv if mlp is not None else None,
        mlp.fc2.conv if mlp is not None else None,
        proj_branch=Branch(attention, mlp, at_input=True) if attention is not None and mlp is not None else None,
        fc2_branch=Branch(mlp, block) if mlp is not None else None,
        removable=mlp is not None,
    )
