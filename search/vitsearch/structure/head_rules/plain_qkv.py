"""CAFormer and Next-ViT: plain attention whose output timm reshapes to the width of the input."""

from __future__ import annotations

import torch
from timm.models.metaformer import Attention
from timm.models.nextvit import EfficientAttention
from torch import nn

from vitsearch.structure.head_rules.rule import HeadRule, attend, project, rule_of_parts, split


class FewerHeadsMetaFormer(Attention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        return project(self, attend(self, *split(self, self.qkv(x), 3)))


class FewerHeadsNextViT(EfficientAttention):  # type: ignore[misc]
    """timm's attention for any number of heads; keys and values may be of fewer tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        (q,) = split(self, self.q(x))
        if self.sr is not None:
            x = self.norm(self.sr(x.transpose(1, 2))).transpose(1, 2)
        return project(self, attend(self, q, *split(self, self.k(x)), *split(self, self.v(x))))


RULES: dict[type[nn.Module], HeadRule] = {
    Attention: rule_of_parts({"qkv": 3}, FewerHeadsMetaFormer),
    EfficientAttention: rule_of_parts({"q": 1, "k": 1, "v": 1}, FewerHeadsNextViT),
}
