"""Swin transformers of timm (Liu et al. 2021) and Swin-S3 (Chen et al. 2021): attention in shifted windows.

A head owns its rows of `qkv`, its columns of `proj` and its column of the relative position table. By default
windows grow and shrink with the image, as in timm's `set_input_size`: each keeps its share of its map, so that no
map is padded, which would cost more than whole windows do. Any other window that divides the maps can be requested.
Patch merging is not cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from timm.layers import PatchEmbed
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from torch import nn

from vitsearch.backbones.plain import branches, is_plain_mlp, slice_qkv
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.models.surgery import keep_of_table


class SwinFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    attention: ClassVar[type[nn.Module]] = WindowAttention
    family = "swin"
    modules = ("swin_transformer",)
    why_no_heads = "has an attention that is not plain (qkv, proj), so its heads cannot be removed"
    why_no_ffn = "has an MLP that is not plain (fc1, fc2), so its channels cannot be removed"
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        step = self._step(name)
        smallest = SMALLEST_WINDOW * self.native_resolution(name) // min(self._windows(name))
        smallest = math.ceil(smallest / step) * step
        if pixels >= smallest and pixels % step == 0:
            return None
        below = pixels // step * step
        near = " and ".join(str(size) for size in (below, below + step) if size >= smallest) or str(smallest)
        return (
            f"windows of whole patches do not divide the maps of {name} at {pixels} pixels: allowed are "
            f"multiples of {step} from {smallest} on (the nearest: {near})"
        )

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return {"img_size": pixels, "window_size": tuple((side, side) for side in self.own_windows(name, pixels))}

    def maps(self, name: str, pixels: int) -> tuple[int, ...]:
        model = cast(SwinTransformer, self.unbuilt(name))
        first = pixels // int(cast(PatchEmbed, model.patch_embed).patch_size[0])
        return tuple(first // 2**stage for stage in range(len(model.layers)))

    def own_windows(self, name: str, pixels: int) -> tuple[int, ...]:
        native = self.native_resolution(name)
        return tuple(side * pixels // native for side in self._windows(name))

    def window_arguments(self, name: str, pixels: int, window: int) -> dict[str, Any]:
        return {"window_size": window}

    def tokens(self, model: nn.Module, resolution: int) -> int:
        return int(cast(PatchEmbed, cast(SwinTransformer, model).patch_embed).num_patches)

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(SwinTransformer, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(self._unit(name, block) for name, block in named_blocks(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, module = named_blocks(model)[block]
        attention: Any = module.attn
        if not isinstance(attention, WindowAttention) or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        slice_qkv(attention, head_dim(attention), kept)
        attention.relative_position_bias_table = keep_of_table(attention.relative_position_bias_table, 1, kept)

    def _unit(self, name: str, block: Any) -> BlockUnits:
        if isinstance(block, nn.Identity):
            return BlockUnits.dropped(name)
        attention: Any = block.attn if isinstance(block.attn, self.attention) else None
        mlp: Any = block.mlp if is_plain_mlp(block.mlp) else None
        attends, mixes = self.branches(block)
        return BlockUnits(
            name,
            attention.num_heads if attention else 0,
            head_dim(attention) if attention else 0,
            attention.proj if attention else None,
            mlp.fc1 if mlp else None,
            mlp.fc2 if mlp else None,
            proj_branch=attends,
            fc2_branch=mixes,
            removable=attention is not None or mlp is not None,
        )

    def branches(self, block: Any) -> tuple[Branch | None, Branch | None]:
        return branches(block)

    def _step(self, name: str) -> int:
        """Valid sizes are multiples of this number of pixels: windows are whole, and maps can be merged."""
        model = cast(SwinTransformer, self.unbuilt(name))
        embed: Any = model.patch_embed
        shares = math.gcd(embed.grid_size[0], *self._windows(name))
        return int(embed.patch_size[0]) * math.lcm(embed.grid_size[0] // shares, 2 ** (len(model.layers) - 1))

    def _windows(self, name: str) -> tuple[int, ...]:
        """The side of the windows of each stage at the native size, in tokens."""
        stages: Any = cast(SwinTransformer, self.unbuilt(name)).layers
        return tuple(int(stage.blocks[0].window_size[0]) for stage in stages)


def named_blocks(model: nn.Module) -> list[tuple[str, SwinTransformerBlock]]:
    stages: Any = cast(SwinTransformer, model).layers
    return [
        (f"layers.{stage}.blocks.{index}", block)
        for stage, layer in enumerate(stages)
        for index, block in enumerate(layer.blocks)
    ]


def head_dim(attention: Any) -> int:
    return int(attention.proj.in_features) // int(attention.num_heads)
