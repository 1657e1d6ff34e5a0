"""Plain ViTs with relative positions, CoAtNet and MaxViT: a position bias in a module of its own, or a shared one.

`qkv` of the attentions of CoAtNet and MaxViT is laid out `[heads, 3, head_dim]` or `[3, heads, head_dim]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import RelPosBias, RelPosBiasTf, RelPosMlp
from timm.models.maxxvit import Attention2d, AttentionCl
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import nn

from vitsearch.models.surgery import head_columns, keep_columns, keep_of_table, keep_rows
from vitsearch.structure.head_rules.rule import (
    HeadRule,
    attend,
    keep_parts,
    number_of_heads,
    project,
    remember_kept,
    split,
)


class FewerHeadsRelPos(RelPosAttention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, shared_rel_pos: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (batch, tokens, channels); `shared_rel_pos`: (1, heads of the whole model, tokens, tokens)."""
        q, k, v = split(self, self.qkv(x), 3)
        bias = None
        if self.rel_pos is not None:
            bias = self.rel_pos.get_bias()
        elif shared_rel_pos is not None:
            bias = shared_rel_pos.index_select(1, self.kept_heads)
        return project(self, attend(self, self.q_norm(q), self.k_norm(k), v, bias))


def keep_of_positions(positions: Any, kept: Sequence[int]) -> None:
    """Keep the position biases of the heads `kept`, in place."""
    if isinstance(positions, RelPosMlp):
        keep_rows(positions.mlp.fc2, kept)
        positions.bias_shape, positions.num_heads = (*positions.bias_shape[:-1], len(kept)), len(kept)
    elif isinstance(positions, RelPosBiasTf):
        positions.relative_position_bias_table = keep_of_table(positions.relative_position_bias_table, 0, kept)
        positions.bias_shape, positions.num_heads = (len(kept), *positions.bias_shape[1:]), len(kept)
    elif isinstance(positions, RelPosBias):
        positions.relative_position_bias_table = keep_of_table(positions.relative_position_bias_table, 1, kept)
        positions.bias_shape = (*positions.bias_shape[:-1], len(kept))


def _can_cut(positions: nn.Module | None) -> bool:
    return positions is None or type(positions) in (RelPosMlp, RelPosBiasTf, RelPosBias)


def _heads(attention: Any) -> int:
    """0 if the position bias is of another kind than the three of timm."""
    return number_of_heads(attention) if _can_cut(attention.rel_pos) else 0


def _keep_plain(attention: Any, kept: Sequence[int]) -> None:
    remember_kept(attention, kept)
    keep_of_positions(attention.rel_pos, kept)
    keep_parts(attention, {"qkv": 3}, kept)
    attention.__class__ = FewerHeadsRelPos


def _keep_coatnet(attention: Any, kept: Sequence[int]) -> None:
    """timm's forward accepts any number of heads."""
    keep_of_positions(attention.rel_pos, kept)
    head_dim, heads = attention.dim_head, attention.num_heads
    if attention.head_first:
        keep_rows(attention.qkv, head_columns(kept, 3 * head_dim))
    else:
        keep_rows(attention.qkv, head_columns([part * heads + head for part in range(3) for head in kept], head_dim))
    keep_columns(attention.proj, head_columns(kept, head_dim))
    attention.num_heads = len(kept)


RULES: dict[type[nn.Module], HeadRule] = {
    RelPosAttention: HeadRule("proj", _heads, _keep_plain),
    Attention2d: HeadRule("proj", _heads, _keep_coatnet),
    AttentionCl: HeadRule("proj", _heads, _keep_coatnet),
}
