"""timm's ViTs with relative positions, as a family of backbones of a package of its own."""

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from vitsearch.backbones.plain import block_units
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits


class RelPosFamily(TimmFamily):
    """ViTs with relative positions (timm, after Swin V2)."""

    family = "vit_relpos"
    modules = ("vision_transformer_relpos",)
    why_no_heads = "reshapes the output of its attention to the full width, so its heads cannot be removed"
    why_no_ffn = "has an MLP that is not plain (fc1, fc2), so its channels cannot be removed"
    why_no_tokens = "does not support token pruning"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        patch = cast(Any, self.unbuilt(name)).patch_embed.patch_size[0]
        return f"{pixels} pixels are not a multiple of the patch size {patch} of {name}" if pixels % patch else None

    def tokens(self, model: nn.Module, resolution: int) -> int:
        vit = cast(Any, model)
        return int(vit.patch_embed.num_patches + vit.num_prefix_tokens)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(Any, model).embed_dim)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        blocks = cast(Any, model).blocks
        return tuple(block_units(f"blocks.{index}", block) for index, block in enumerate(blocks))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        raise PlanError(f"blocks.{block}: {self.why_no_heads}")
