"""EVA, EVA-02, DINOv3 and the other models of timm's `eva`: rotary positions, `qkv` fused or in three layers.

A fused `qkv` of EVA has its bias outside of the layer, one for queries and one for values. Some models learn the
rotations, and then each head has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import AttentionRope, apply_rot_embed_cat, maybe_add_mask, resolve_self_attn_mask
from timm.models.eva import EvaAttention
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import head_columns, keep_of_table, keep_rows
from vitsearch.structure.head_rules.rule import (
    HeadRule,
    head_dim_of,
    joined,
    keep_parts,
    remember_kept,
    split,
)


class FewerHeadsEva(EvaAttention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(
        self,
        x: torch.Tensor,
        rope: torch.Tensor | None = None,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        q, k, v = self._heads(x)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            rotation = _of_kept(self, rope)
            q, k = self._rotated(q, rotation).type_as(v), self._rotated(k, rotation).type_as(v)
        if self.fused_attn:
            share = self.attn_drop.p if self.training else 0.0
            attended = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=attn_mask, dropout_p=share, is_causal=is_causal
            )
        else:
            logits = (q * self.scale) @ k.transpose(-2, -1)
            mask = resolve_self_attn_mask(x.shape[1], logits, attn_mask, is_causal=is_causal)
            attended = self.attn_drop(maybe_add_mask(logits, mask).softmax(dim=-1)) @ v
        columns = joined(self, attended)
        if self.gate is not None:
            columns = columns * self.gate(x).sigmoid()
        output: torch.Tensor = self.proj_drop(self.proj(columns))
        return output

    def _heads(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.qkv is None:
            return tuple(split(self, layer(x))[0] for layer in (self.q_proj, self.k_proj, self.v_proj))
        qkv = self.qkv(x)  # called as a layer, so that hooks see its input
        if self.q_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, self.k_bias, self.v_bias))
        return split(self, qkv, 3)

    def _rotated(self, values: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Rotate all tokens of (batch, heads, tokens, head_dim) but the first ones, which have no position."""
        first, others = values[:, :, : self.num_prefix_tokens], values[:, :, self.num_prefix_tokens :]
        return torch.cat((first, apply_rot_embed_cat(others, rotation, half=self.rotate_half)), dim=2)


class FewerHeadsRope(AttentionRope):  # type: ignore[misc]
    """timm's attention for fewer heads than `rope` has rotations."""

    def forward(
        self,
        x: torch.Tensor,
        rope: torch.Tensor | None = None,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        rotation = None if rope is None else _of_kept(self, rope)
        output: torch.Tensor = super().forward(x, rotation, attn_mask, is_causal)
        return output


def _of_kept(attention: Any, rope: torch.Tensor) -> torch.Tensor:
    """The rotations of the kept heads, if each head has its own: ([[batch], heads], tokens, 2 * head_dim)."""
    if rope.ndim == 3 or (rope.ndim == 4 and rope.shape[1] != 1):
        return rope.index_select(-3, attention.kept_heads)
    return rope


def _heads(attention: Any) -> int:
    """0 if a norm covers all heads, or if several heads share their keys and values."""
    depends = type(attention.norm) is not nn.Identity or getattr(attention, "num_kv_groups", 1) > 1
    return 0 if depends else int(attention.num_heads)


def _keep(attention: Any, kept: Sequence[int]) -> None:
    remember_kept(attention, kept)
    columns = head_columns(kept, head_dim_of(attention))
    if attention.gate is not None:
        keep_rows(attention.gate, columns)
    if getattr(attention, "q_bias", None) is not None:
        attention.q_bias = keep_of_table(attention.q_bias, 0, columns)
        attention.v_bias = keep_of_table(attention.v_bias, 0, columns)
        attention.k_bias = attention.k_bias[: len(columns)].clone()  # zeros
    separate = {"q_proj": 1, "k_proj": 1, "v_proj": 1}
    keep_parts(attention, separate if attention.qkv is None else {"qkv": 3}, kept)


def _keep_eva(attention: Any, kept: Sequence[int]) -> None:
    _keep(attention, kept)
    attention.__class__ = FewerHeadsEva


def _keep_rope(attention: Any, kept: Sequence[int]) -> None:
    _keep(attention, kept)
    attention.num_kv_heads = len(kept)
    attention.attn_dim = attention.kv_dim = attention.proj.in_features
    attention.__class__ = FewerHeadsRope


RULES: dict[type[nn.Module], HeadRule] = {
    EvaAttention: HeadRule("proj", _heads, _keep_eva),
    AttentionRope: HeadRule("proj", _heads, _keep_rope),
}
