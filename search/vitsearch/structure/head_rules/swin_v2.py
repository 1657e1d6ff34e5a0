"""Swin V2 and timm's Swin V2 CR: cosine attention in windows, with positions from a small network.

A head owns its rows of `qkv`, its columns of `proj`, its row of that network, and a scale. The bias of `qkv` of Swin V2
is outside of the layer: queries and values have one each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.models.swin_transformer_v2 import WindowAttention
from timm.models.swin_transformer_v2_cr import WindowMultiHeadAttention
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import head_columns, keep_of_table, keep_rows
from vitsearch.structure.head_rules.rule import HeadRule, head_dim_of, keep_parts, number_of_heads, project, split

LARGEST_SCALE, LARGEST_BIAS = 100.0, 16.0
"""Limits of the paper: on the scale of a cosine, and on a position bias."""


class FewerHeadsSwinV2(WindowAttention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (windows, tokens, channels); `mask`: (windows of an image, tokens, tokens)."""
        qkv = self.qkv(x)
        if self.q_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, self.k_bias, self.v_bias))
        q, k, v = split(self, qkv, 3)
        return project(self, self.attn_drop(_weights(q, k, self.logit_scale, self._bias(x.shape[1]), mask)) @ v)

    def _bias(self, tokens: int) -> torch.Tensor:
        """Position biases (1, heads, tokens, tokens), each between 0 and 16."""
        table = self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads)
        bias = table[self.relative_position_index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1)
        return LARGEST_BIAS * torch.sigmoid(bias).unsqueeze(0)


class FewerHeadsSwinV2Cr(WindowMultiHeadAttention):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (windows, tokens, channels); `mask`: (windows of an image, tokens, tokens)."""
        q, k, v = split(self, self.qkv(x), 3)
        scale, bias = self.logit_scale.view(-1, 1, 1), self._relative_positional_encodings()
        return project(self, self.attn_drop(_weights(q, k, scale, bias, mask)) @ v)


def _weights(
    q: torch.Tensor, k: torch.Tensor, log_scale: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Weights (windows, heads, tokens, tokens) of cosine attention; `log_scale`: (heads, 1, 1)."""
    cosines = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    logits = cosines * torch.clamp(log_scale, max=math.log(LARGEST_SCALE)).exp() + bias
    if mask is not None:
        _, heads, tokens, _ = logits.shape
        of_images = logits.view(-1, mask.shape[0], heads, tokens, tokens) + mask[None, :, None]
        logits = of_images.view(-1, heads, tokens, tokens)
    return logits.softmax(dim=-1)


def _keep(attention: Any, kept: Sequence[int]) -> None:
    columns = head_columns(kept, head_dim_of(attention))
    if attention.q_bias is not None:
        attention.q_bias = keep_of_table(attention.q_bias, 0, columns)
        attention.v_bias = keep_of_table(attention.v_bias, 0, columns)
        attention.k_bias = attention.k_bias[: len(columns)].clone()  # zeros
    keep_rows(attention.cpb_mlp[2], kept)
    _keep_scaled(attention, kept)
    attention.__class__ = FewerHeadsSwinV2


def _keep_cr(attention: Any, kept: Sequence[int]) -> None:
    keep_rows(attention.meta_mlp.fc2, kept)
    _keep_scaled(attention, kept)
    attention.__class__ = FewerHeadsSwinV2Cr


def _keep_scaled(attention: Any, kept: Sequence[int]) -> None:
    attention.logit_scale = keep_of_table(attention.logit_scale, 0, kept)
    keep_parts(attention, {"qkv": 3}, kept)


RULES: dict[type[nn.Module], HeadRule] = {
    WindowAttention: HeadRule("proj", number_of_heads, _keep),
    WindowMultiHeadAttention: HeadRule("proj", number_of_heads, _keep_cr),
}
