"""VOLO: plain attention over a map, and outlook attention, where a token's features give the weights of its window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.models.volo import Attention, OutlookAttention
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import head_columns, keep_rows
from vitsearch.structure.head_rules.rule import (
    HeadRule,
    attend,
    head_dim_of,
    keep_parts,
    number_of_heads,
    project,
    rule_of_parts,
    split,
)


class FewerHeadsVolo(Attention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, height, width, channels)."""
        tokens = x.flatten(1, 2)
        return project(self, attend(self, *split(self, self.qkv(tokens), 3))).reshape(x.shape)


class FewerHeadsOutlook(OutlookAttention):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, height, width, channels)."""
        batch, height, width, _ = x.shape
        area, head_dim, columns = self.kernel_size**2, head_dim_of(self), self.proj.in_features
        rows, places = math.ceil(height / self.stride), math.ceil(width / self.stride)
        windows = self.unfold(self.v(x).permute(0, 3, 1, 2))
        v = windows.reshape(batch, self.num_heads, head_dim, area, rows * places).permute(0, 1, 4, 3, 2)
        pooled = self.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        logits = self.attn(pooled).reshape(batch, rows * places, self.num_heads, area, area).permute(0, 2, 1, 3, 4)
        weights = self.attn_drop((logits * self.scale).softmax(dim=-1))
        spread = (weights @ v).permute(0, 1, 4, 3, 2).reshape(batch, columns * area, rows * places)
        image = functional.fold(
            spread, output_size=(height, width), kernel_size=self.kernel_size, padding=self.padding, stride=self.stride
        )
        output: torch.Tensor = self.proj_drop(self.proj(image.permute(0, 2, 3, 1)))
        return output


def _keep_outlook(attention: Any, kept: Sequence[int]) -> None:
    keep_rows(attention.attn, head_columns(kept, attention.kernel_size**4))
    keep_parts(attention, {"v": 1}, kept)
    attention.__class__ = FewerHeadsOutlook


RULES: dict[type[nn.Module], HeadRule] = {
    Attention: rule_of_parts({"qkv": 3}, FewerHeadsVolo),
    OutlookAttention: HeadRule("proj", number_of_heads, _keep_outlook),
}
