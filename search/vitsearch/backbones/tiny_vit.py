"""TinyViT (Wu et al. 2022): a stage of inverted residuals, then attention in unshifted windows, with LeViT's biases.

A head owns its rows of `qkv` (laid out `[heads, k | k | v]`), its columns of `proj` and its row of position
biases. By default windows keep their share of the map at every resolution, so that none is padded; others that divide
the maps can be requested. The MLPs and the hidden channels of the inverted residuals are cut as well. Mergings are
not cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from timm.models.tiny_vit import Attention, MBConv, NormMlp, TinyVit, TinyVitBlock
from torch import nn

from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW, clipped
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.models.surgery import head_columns, keep_columns, keep_of_table, keep_rows

STRIDE = 32


class TinyViTFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "tiny_vit"
    modules = ("tiny_vit",)
    why_no_heads = "has an attention of another layout, so its heads cannot be removed"
    why_no_ffn = "has an MLP of another layout, so its channels cannot be removed"
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"
    why_no_depth = "has a convolution outside the residual branches in every block, so none can be dropped"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        smallest = SMALLEST_WINDOW * STRIDE
        if pixels >= smallest and pixels % STRIDE == 0:
            return None
        below = pixels // STRIDE * STRIDE
        near = " and ".join(str(size) for size in (below, below + STRIDE) if size >= smallest) or str(smallest)
        return (
            f"windows of whole tokens do not divide the maps of {name} at {pixels} pixels: allowed are "
            f"multiples of {STRIDE} from {smallest} on (the nearest: {near})"
        )

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return self._arguments(self.own_windows(name, pixels))

    def maps(self, name: str, pixels: int) -> tuple[int, ...]:
        return pixels // 8, pixels // 16, pixels // 32

    def own_windows(self, name: str, pixels: int) -> tuple[int, ...]:
        native = self.native_resolution(name)
        stages: Any = cast(TinyVit, self.unbuilt(name)).stages
        return tuple(int(stage.blocks[0].window_size) * pixels // native for stage in list(stages)[1:])

    def window_arguments(self, name: str, pixels: int, window: int) -> dict[str, Any]:
        return self._arguments(clipped(window, self.maps(name, pixels)))

    def tokens(self, model: nn.Module, resolution: int) -> int:
        return (resolution // 8) ** 2

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(TinyVit, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_unit(name, block) for name, block in _blocks(model))

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        name, module = _blocks(model)[block]
        attention = getattr(module, "attn", None)
        if type(attention) is not Attention or not kept:
            raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
        slice_biased_attention(attention, kept)

    @staticmethod
    def _arguments(windows: tuple[int, ...]) -> dict[str, Any]:
        """timm expects a window for the first stage too, which has no attention."""
        return {"window_sizes": (windows[0], *windows)}


def slice_biased_attention(attention: Any, kept: Sequence[int]) -> None:
    """Cut rows of `qkv` (laid out `[heads, k | k | v]`), columns of `proj`, rows of the biases, and counters."""
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
        expand, project = block.conv1.conv, block.conv3
        branch = Branch(block, block.act3, at_input=True)
        return BlockUnits(name, 0, 0, None, expand, project.conv, fc2_norm=project.bn, fc2_branch=branch)
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
        proj_branch=Branch(block, block.local_conv, at_input=True),
        fc2_branch=Branch(block.mlp, block),
    )
