"""timm's plain attention in three steps, so that queries and keys are available while it is computed once.

timm does not expose them, and its fused kernel does not return the weights. A second pass would cost a third of the
`qkv` product again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional


class Heads(NamedTuple):
    """Queries, keys and values as they enter the scores, (batch, heads, tokens, head_dim) each."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


def heads_of(attention: Any, x: torch.Tensor) -> Heads:
    """The heads of `attention` for `x` (batch, tokens, channels)."""
    batch, tokens, _ = x.shape
    split = attention.qkv(x).reshape(batch, tokens, 3, attention.num_heads, attention.head_dim)
    queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
    return Heads(attention.q_norm(queries), attention.k_norm(keys), values)


def attend(attention: Any, heads: Heads, bias: torch.Tensor | None = None) -> torch.Tensor:
    """The output of timm's attention, (batch, tokens, channels); `bias` (batch, 1, 1, tokens) is added to the
    scores of each key."""
    queries, keys, values = heads
    if attention.fused_attn:
        dropout = attention.attn_drop.p if attention.training else 0.0
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=dropout)
    else:
        scores = scores_of(attention, queries, keys)
        weights = (scores if bias is None else scores + bias).softmax(dim=-1)
        mixed = attention.attn_drop(weights) @ values
    return join(attention, mixed)


def scores_of(attention: Any, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Scores before the softmax, (batch, heads, queries, keys)."""
    scores: torch.Tensor = (queries * attention.scale) @ keys.transpose(-2, -1)
    return scores


def join(attention: Any, mixed: torch.Tensor) -> torch.Tensor:
    """Send `mixed` (batch, heads, tokens, head_dim) through the output projection."""
    batch, _, tokens, _ = mixed.shape
    side_by_side = mixed.transpose(1, 2).reshape(batch, tokens, attention.attn_dim)
    projected: torch.Tensor = attention.proj_drop(attention.proj(side_by_side))
    return projected


def attention_received(attention: Any, heads: Heads, prefix: int, readers: int) -> torch.Tensor:
    """The attention that each patch token receives, as a mean over heads: (batch, patches).

    It is paid by the first `readers` tokens, which the classifier reads (class and distillation token, averaged).
    Where the classifier reads all patches (`readers` 0), it is paid by the mean query of the patches.
    """
    queries = heads.queries[:, :, :readers] if readers else heads.queries[:, :, prefix:].mean(2, keepdim=True)
    rows = scores_of(attention, queries, heads.keys).softmax(dim=-1)
    return rows.mean((1, 2))[:, prefix:]
