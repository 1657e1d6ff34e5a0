"""ConViT: plain attention, and attention that is gated between contents and positions (GPSA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.convit import GPSA, MHSA
from torch import nn

from vitsearch.models.surgery import keep_of_table, keep_rows
from vitsearch.structure.head_rules.rule import (
    HeadRule,
    attend,
    keep_parts,
    number_of_heads,
    project,
    rule_of_parts,
    split,
)


class FewerHeadsMhsa(MHSA):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        return project(self, attend(self, *split(self, self.qkv(x), 3)))


class FewerHeadsGpsa(GPSA):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        tokens, indices = x.shape[1], self.get_buffer("rel_indices")
        if indices.shape[1] != tokens:
            self.rel_indices = self.get_rel_indices(tokens)
        (v,) = split(self, self.v(x))
        return project(self, self.get_attention(x) @ v)

    def get_attention(self, x: torch.Tensor) -> torch.Tensor:
        """Weights (batch, heads, tokens, tokens)."""
        q, k = split(self, self.qk(x), 2)
        by_contents = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        by_positions = self.pos_proj(self.rel_indices).permute(0, 3, 1, 2).softmax(dim=-1)
        gate = torch.sigmoid(self.gating_param.view(1, -1, 1, 1))
        weights = (1.0 - gate) * by_contents + gate * by_positions
        dropped: torch.Tensor = self.attn_drop(weights / weights.sum(dim=-1, keepdim=True))
        return dropped


def _keep_gated(attention: Any, kept: Sequence[int]) -> None:
    keep_parts(attention, {"qk": 2, "v": 1}, kept)
    keep_rows(attention.pos_proj, kept)
    attention.gating_param = keep_of_table(attention.gating_param, 0, kept)
    attention.__class__ = FewerHeadsGpsa


RULES: dict[type[nn.Module], HeadRule] = {
    MHSA: rule_of_parts({"qkv": 3}, FewerHeadsMhsa),
    GPSA: HeadRule("proj", number_of_heads, _keep_gated),
}
