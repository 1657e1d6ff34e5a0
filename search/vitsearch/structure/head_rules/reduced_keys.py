"""PVT v2 and Twins: attention to a smaller map of keys and values, and Twins' attention inside of windows."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.pvt_v2 import Attention
from timm.models.twins import GlobalSubSampleAttn, LocallyGroupedAttn
from torch import nn
from torch.nn import functional

from vitsearch.structure.head_rules.rule import HeadRule, attend, head_dim_of, project, rule_of_parts, split


class FewerHeadsPvt(Attention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, feat_size: tuple[int, int]) -> torch.Tensor:
        """`x`: (batch, tokens, channels) of a map of `feat_size`."""
        (q,) = split(self, self.q(x))
        if self.sr is not None:
            image = _as_map(x, feat_size)
            x = _reduced(self, image if self.pool is None else self.pool(image))
        if self.act is not None:
            x = self.act(x)
        return project(self, attend(self, q, *split(self, self.kv(x), 2)))


class FewerHeadsTwinsGlobal(GlobalSubSampleAttn):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """`x`: (batch, tokens, channels) of a map of `size`."""
        (q,) = split(self, self.q(x))
        if self.sr is not None:
            x = _reduced(self, _as_map(x, size))
        return project(self, attend(self, q, *split(self, self.kv(x), 2)))


class FewerHeadsTwinsWindow(LocallyGroupedAttn):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """`x`: (batch, tokens, channels) of a map of `size`."""
        batch, tokens, channels = x.shape
        height, width = size
        side, head_dim = self.ws, head_dim_of(self)
        below, right = -height % side, -width % side
        padded = functional.pad(x.view(batch, height, width, channels), (0, 0, 0, right, 0, below))
        rows, columns = (height + below) // side, (width + right) // side
        windows = padded.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
        shape = (batch, rows * columns, side * side, 3, self.num_heads, head_dim)
        q, k, v = self.qkv(windows).reshape(shape).permute(3, 0, 1, 4, 2, 5).unbind(0)
        merged = (batch, rows, columns, side, side, self.proj.in_features)
        image = attend(self, q, k, v).transpose(2, 3).reshape(merged).transpose(2, 3)
        image = image.reshape(batch, height + below, width + right, self.proj.in_features)
        image = image[:, :height, :width].reshape(batch, tokens, self.proj.in_features)
        output: torch.Tensor = self.proj_drop(self.proj(image))
        return output


def _as_map(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    batch, _, channels = x.shape
    return x.permute(0, 2, 1).reshape(batch, channels, size[0], size[1])


def _reduced(attention: Any, image: torch.Tensor) -> torch.Tensor:
    """The tokens of the smaller map from which keys and values are computed."""
    batch, channels, _, _ = image.shape
    tokens: torch.Tensor = attention.norm(attention.sr(image).reshape(batch, channels, -1).permute(0, 2, 1))
    return tokens


RULES: dict[type[nn.Module], HeadRule] = {
    Attention: rule_of_parts({"q": 1, "kv": 2}, FewerHeadsPvt),
    GlobalSubSampleAttn: rule_of_parts({"q": 1, "kv": 2}, FewerHeadsTwinsGlobal),
    LocallyGroupedAttn: rule_of_parts({"qkv": 3}, FewerHeadsTwinsWindow),
}
