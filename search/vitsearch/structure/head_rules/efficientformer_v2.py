"""EfficientFormerV2: attention over maps, with a depthwise convolution of the values added to its output.

The heads of an attention inside a stage are mixed: one convolution mixes their logits, another their weights. So
only the output side of a head is cut (its values, its row of the second convolution, its columns of `proj`); its
queries and keys are read by the other heads and stay. The attention of a downsampling has no such mixing: there a
head is cut whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.efficientformer_v2 import Attention2d, Attention2dDownsample
from torch import nn

from vitsearch.models.surgery import head_columns, keep_columns, keep_of_table, keep_rows
from vitsearch.structure.head_rules.rule import HeadRule, keep_rows_and_norm


class FewerValues(Attention2d):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of value heads: timm assumes as many as query heads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, channels, height, width)."""
        batch = x.shape[0]
        if self.stride_conv is not None:
            x = self.stride_conv(x)
        q = self.q(x).reshape(batch, self.num_heads, -1, self.N).transpose(2, 3)
        k = self.k(x).reshape(batch, self.num_heads, -1, self.N)
        v = self.v(x)
        local = self.v_local(v)
        weights = self.talking_head1((q @ k) * self.scale + self.get_attention_biases(x.device))
        weights = self.talking_head2(weights.softmax(dim=-1))
        attended = weights @ v.reshape(batch, self.dh // self.d, self.d, self.N).transpose(2, 3)
        x = attended.transpose(2, 3).reshape(batch, self.dh, *self.resolution) + local
        if self.upsample is not None:
            x = self.upsample(x)
        output: torch.Tensor = self.proj(self.act(x))
        return output


def _values(attention: Any) -> int:
    return int(attention.dh) // int(attention.d)


def _keep_mixed(attention: Any, kept: Sequence[int]) -> None:
    _keep_values(attention, kept)
    keep_rows(attention.talking_head2, kept)
    attention.__class__ = FewerValues


def _keep_downsample(attention: Any, kept: Sequence[int]) -> None:
    _keep_values(attention, kept)
    keys = head_columns(kept, attention.key_dim)
    keep_rows_and_norm(attention.q.proj.conv, attention.q.proj.bn, keys)
    keep_rows_and_norm(attention.k.conv, attention.k.bn, keys)
    attention.attention_biases = keep_of_table(attention.attention_biases, 0, kept)
    attention.attention_bias_cache = {}
    attention.num_heads = len(kept)


def _keep_values(attention: Any, kept: Sequence[int]) -> None:
    columns = head_columns(kept, attention.d)
    for layer in (attention.v, attention.v_local):
        keep_rows_and_norm(layer.conv, layer.bn, columns)
    local = attention.v_local.conv
    local.in_channels = local.groups = attention.dh = len(columns)
    keep_columns(attention.proj.conv, columns)


RULES: dict[type[nn.Module], HeadRule] = {
    Attention2d: HeadRule("proj.conv", _values, _keep_mixed),
    Attention2dDownsample: HeadRule("proj.conv", _values, _keep_downsample),
}
