"""TinyViT (Wu et al. 2022): a stage of inverted residuals, then attention in windows, not shifted, with LeViT's biases.

A head owns its rows of ``qkv`` (laid out ``[heads, k | k | v]``), its columns of ``proj`` and its row of
position biases. Windows keep their share of the map at every resolution, so none is padded. What is cut
beside heads: the MLPs, and the hidden channels of the inverted residuals. Mergings stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from timm.models.tiny_vit import Attention, MBConv, NormMlp, TinyVit, TinyVitBlock
from torch import nn

from vitsearch.backbones.base import BlockUnits
from vitsearch.backbones.slicing import head_columns, keep_columns, keep_of_table, keep_rows
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.errors import PlanError

STRIDE = 32
SMALLEST_WINDOW = 2
"""In tokens; attention within windows of one token mixes nothing."""


class TinyViTFamily(TimmFamily):
    """See :class:`vitsearch.backbones.base.Backbone`."""

    family = "tiny_vit"
    modules = ("tiny_vit",)
    why_no_heads = "has an attention of another layout, so its heads cannot be removed"
    why_no_ffn = "has an MLP of another layout, so its channels cannot be removed"
    why_no_windows = "gets the windows that fit the resolution; others cannot be asked for in this version"
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        smallest = SMALLEST_WINDOW * STRIDE
        if pixels >= smallest and pixels % STRIDE == 0:
            return None
        below = pixels // STRIDE * STRIDE
        near = " and ".join(str(size) for size in (below, below + STRIDE) if size >= smallest) or str(smallest)
        return (
            f"windows of whole tokens do not divide the maps of {name} at {pixels} pixels: "
            f"multiples of {STRIDE} from {smallest} on do ({near} would be near)"
        )

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        native = self.native_resolution(name)
        return {"window_sizes": tuple(window * pixels // native for window in self._windows(name))}

    def tokens(self, model: nn.Module, resolution: int) -> int:
        return int(resolution // 8) ** 2

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(TinyVit, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_unit(name, block) for name, block in _blocks(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, found = _blocks(model)[block]
        attention = getattr(found, "attn", None)
        if type(attention) is not Attention or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        slice_biased_attention(attention, kept)

    def _windows(self, name: str) -> tuple[int, ...]:
        """The side of the windows of each stage at the native size, in tokens; the first stage has none and
        takes the second's."""
        stages: Any = cast(TinyVit, self.unbuilt(name)).stages
        sides = [int(stage.blocks[0].window_size) for stage in list(stages)[1:]]
        return (sides[0], *sides)


def slice_biased_attention(attention: Any, kept: Sequence[int]) -> None:
    """Rows of ``qkv`` (laid out ``[heads, k | k | v]``), columns of ``proj``, rows of the biases, counters."""
    key, value = attention.key_dim, attention.val_dim
    keep_rows(attention.qkv, head_columns(kept, 2 * key + value))
    keep_columns(attention.proj, head_columns(kept, value))
    attention.attention_biases = keep_of_table(attention.attention_biases, 0, kept)
    attention.attention_bias_cache = {}
    attention.num_heads, attention.out_dim = len(kept), len(kept) * value


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(_named_blocks(cast(TinyVit, model).stages))


def _named_blocks(stages: Any) -> Iterator[tuple[str, nn.Module]]:
    for number, stage in enumerate(stages):
        for index, block in enumerate(stage.blocks):
            yield f"stages.{number}.blocks.{index}", block


def _unit(name: str, block: Any) -> BlockUnits:
    if isinstance(block, MBConv):
        return BlockUnits(name, 0, 0, None, block.conv1.conv, block.conv3.conv, fc2_norm=block.conv3.bn)
    assert isinstance(block, TinyVitBlock)
    attention: Any = block.attn if type(block.attn) is Attention else None
    mlp: Any = block.mlp if type(block.mlp) is NormMlp else None
    return BlockUnits(
        name,
        attention.num_heads if attention else 0,
        attention.val_dim if attention else 0,
        attention.proj if attention else None,
        mlp.fc1 if mlp else None,
        mlp.fc2 if mlp else None,
    )
