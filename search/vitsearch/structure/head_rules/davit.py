"""DaViT: attention inside of windows, and attention across the channels of a group (a head of channels)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.davit import ChannelAttention, ChannelAttentionV2, WindowAttention
from torch import nn

from vitsearch.models.surgery import head_columns
from vitsearch.structure.head_rules.rule import HeadRule, attend, joined, keep_head_columns, rule_of_parts, split


class FewerHeadsDaViTWindow(WindowAttention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (windows, tokens, channels)."""
        output: torch.Tensor = self.proj(joined(self, attend(self, *split(self, self.qkv(x), 3))))
        return output


class FewerHeadsDaViTChannel(ChannelAttention):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        q, k, v = split(self, self.qkv(x), 3)
        weights = ((k * self.scale).transpose(-1, -2) @ v).softmax(dim=-1)
        output: torch.Tensor = self.proj(joined(self, (weights @ q.transpose(-1, -2)).transpose(-1, -2)))
        return output


class FewerHeadsDaViTChannelV2(ChannelAttentionV2):  # type: ignore[misc]
    """timm's attention for any number of groups: timm takes the width of a group from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.groups, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scale = tokens**-0.5 if self.dynamic_scale else self.head_dim**-0.5
        weights = ((q * scale).transpose(-1, -2) @ k).softmax(dim=-1)
        output: torch.Tensor = self.proj(joined(self, (weights @ v.transpose(-1, -2)).transpose(-1, -2)))
        return output


def _groups(attention: Any) -> int:
    return int(attention.groups)


def _keep_groups(attention: Any, kept: Sequence[int]) -> None:
    keep_head_columns(attention, {"qkv": 3}, head_columns(kept, attention.head_dim))
    attention.groups = len(kept)
    attention.__class__ = FewerHeadsDaViTChannelV2


RULES: dict[type[nn.Module], HeadRule] = {
    WindowAttention: rule_of_parts({"qkv": 3}, FewerHeadsDaViTWindow),
    ChannelAttention: rule_of_parts({"qkv": 3}, FewerHeadsDaViTChannel),
    ChannelAttentionV2: HeadRule("proj", _groups, _keep_groups),
}
