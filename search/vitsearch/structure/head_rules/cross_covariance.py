"""XCiT and EdgeNeXt: a head attends among its own channels (XCA), with a temperature of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.edgenext import CrossCovarianceAttn
from timm.models.xcit import XCA
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import keep_of_table
from vitsearch.structure.head_rules.rule import HeadRule, keep_parts, number_of_heads, project, split


class FewerHeadsEdgeNeXt(CrossCovarianceAttn):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        return project(self, _across_channels(self, x))


class FewerHeadsXCiT(XCA):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        return project(self, _across_channels(self, x))


def _across_channels(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """(batch, heads, tokens, head_dim) of (batch, tokens, channels)."""
    q, k, v = (part.transpose(-2, -1) for part in split(attention, attention.qkv(x), 3))
    q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
    if getattr(attention, "fused_attn", False):
        attended = functional.scaled_dot_product_attention(q * attention.temperature, k, v, scale=1.0)
    else:
        logits = (q @ k.transpose(-2, -1)) * attention.temperature
        attended = attention.attn_drop(logits.softmax(dim=-1)) @ v
    return attended.transpose(-2, -1)


def _rule(fewer: type[nn.Module]) -> HeadRule:
    def keep(attention: Any, kept: Sequence[int]) -> None:
        keep_parts(attention, {"qkv": 3}, kept)
        attention.temperature = keep_of_table(attention.temperature, 0, kept)
        attention.__class__ = fewer

    return HeadRule("proj", number_of_heads, keep)


RULES: dict[type[nn.Module], HeadRule] = {
    CrossCovarianceAttn: _rule(FewerHeadsEdgeNeXt),
    XCA: _rule(FewerHeadsXCiT),
}
