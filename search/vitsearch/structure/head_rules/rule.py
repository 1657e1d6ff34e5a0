"""The rule of one attention class, and what the rules share: slices, products of heads, projections.

Unless a rule says otherwise, a layer has rows `[parts, heads, head_dim]` (three parts for `qkv`, two for `kv`), and
`proj` has columns `[heads, head_dim]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import head_columns, keep_columns, keep_norm_channels, keep_rows


@dataclass(frozen=True)
class HeadRule:
    """How to cut the heads of one class of attention.

    Args:
        consumer: Name, inside the attention, of the layer that reads the outputs of all heads side by side:
            `[heads, head_dim]` columns.
        heads: The number of heads, also of a cut attention; 0 if this instance cannot be cut.
        keep: Keeps these heads, in ascending order and at least one, in place; it may change the class of the
            attention to a subclass whose forward accepts any number of heads.
    """

    consumer: str
    heads: Callable[[nn.Module], int]
    keep: Callable[[nn.Module, Sequence[int]], None]


def rule_of_parts(parts: Mapping[str, int], fewer: type[nn.Module]) -> HeadRule:
    """The rule of an attention all of whose heads' weights are rows of the layers `parts` and columns of `proj`.

    Args:
        parts: For each layer, by name, the number of runs of rows of a head: 3 for `qkv`.
        fewer: The class of a cut attention.
    """

    def keep(attention: nn.Module, kept: Sequence[int]) -> None:
        keep_parts(attention, parts, kept)
        attention.__class__ = fewer

    return HeadRule("proj", number_of_heads, keep)


def number_of_heads(attention: Any) -> int:
    return int(attention.num_heads)


def head_dim_of(attention: Any) -> int:
    return int(attention.proj.in_features) // int(attention.num_heads)


def keep_parts(attention: Any, parts: Mapping[str, int], kept: Sequence[int]) -> None:
    """Keep the rows of the layers `parts` and the columns of `proj` that belong to the heads `kept`, and count them."""
    keep_head_columns(attention, parts, head_columns(kept, head_dim_of(attention)))
    attention.num_heads = len(kept)


def keep_head_columns(attention: Any, parts: Mapping[str, int], columns: Sequence[int]) -> None:
    """Keep these columns of `proj`, and the rows of each part of the layers `parts` that they belong to."""
    width = attention.proj.in_features
    for name, count in parts.items():
        keep_rows(getattr(attention, name), [part * width + column for part in range(count) for column in columns])
    keep_columns(attention.proj, columns)


def keep_rows_and_norm(layer: nn.Module, norm: Any, kept: Sequence[int]) -> None:
    """Keep the outputs `kept` of a layer and of the batch norm behind it."""
    keep_rows(layer, kept)  # type: ignore[arg-type]
    keep_norm_channels(norm, kept)


def remember_kept(attention: Any, kept: Sequence[int]) -> None:
    """Store which heads of the whole attention are kept, for inputs that have an entry for each of those."""
    index = torch.tensor(kept, device=attention.proj.weight.device)
    before = getattr(attention, "kept_heads", None)
    attention.register_buffer("kept_heads", index if before is None else before[index], persistent=False)


def split(attention: Any, values: torch.Tensor, parts: int = 1) -> tuple[torch.Tensor, ...]:
    """(batch, tokens, parts * heads * head_dim) as one (batch, heads, tokens, head_dim) for each part."""
    batch, tokens, _ = values.shape
    shape = (batch, tokens, parts, attention.num_heads, head_dim_of(attention))
    return values.reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)


def attend(
    attention: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention of each head, with `bias` added to its logits: fused if `attention` is, else as matrix products."""
    dropout = getattr(attention, "attn_drop", None)
    if getattr(attention, "fused_attn", False):
        share = dropout.p if dropout is not None and attention.training else 0.0
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=share)
    logits = (q * attention.scale) @ k.transpose(-2, -1)
    weights: torch.Tensor = (logits if bias is None else logits + bias).softmax(dim=-1)
    if dropout is not None:
        weights = dropout(weights)
    return weights @ v


def joined(attention: Any, heads: torch.Tensor) -> torch.Tensor:
    """(batch, heads, tokens, head_dim) as (batch, tokens, columns of `proj`)."""
    batch, _, tokens, _ = heads.shape
    return heads.transpose(1, 2).reshape(batch, tokens, attention.proj.in_features)


def project(attention: Any, heads: torch.Tensor) -> torch.Tensor:
    """`proj`, with its dropout, of (batch, heads, tokens, head_dim)."""
    output: torch.Tensor = attention.proj_drop(attention.proj(joined(attention, heads)))
    return output
