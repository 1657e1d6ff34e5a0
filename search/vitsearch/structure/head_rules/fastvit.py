"""FastViT, including MobileCLIP's image encoders: plain attention over the tokens of a map."""

from __future__ import annotations

import torch
from timm.models.fastvit import Attention
from torch import nn

from vitsearch.structure.head_rules.rule import HeadRule, attend, project, rule_of_parts, split


class FewerHeadsFastViT(Attention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, channels, height, width)."""
        tokens = x.flatten(2).transpose(1, 2)
        attended = project(self, attend(self, *split(self, self.qkv(tokens), 3)))
        return attended.transpose(1, 2).reshape(x.shape)


RULES: dict[type[nn.Module], HeadRule] = {Attention: rule_of_parts({"qkv": 3}, FewerHeadsFastViT)}
