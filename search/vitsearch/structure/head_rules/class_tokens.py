"""Attention whose queries are one token (CaiT, XCiT, CrossViT) or learnt (pooling by attention, as in SigLIP's ViTs);
and CaiT's attention with heads that are mixed.

In CaiT's talking heads one layer mixes the logits of the heads, another their weights. So only the output side of a
head is cut (its values, its row of the second layer, its columns of `proj`); its queries and keys are read by the other
heads and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from timm.layers import AttentionPoolLatent, maybe_add_mask
from timm.models.cait import ClassAttn, TalkingHeadAttn
from timm.models.crossvit import CrossAttention
from torch import nn
from torch.nn import functional

from vitsearch.models.surgery import head_columns, keep_columns, keep_rows
from vitsearch.structure.head_rules.rule import HeadRule, attend, joined, project, rule_of_parts, split


class FewerHeadsOfClassToken(ClassAttn):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels); the output is that of the first token."""
        heads = *split(self, self.q(x[:, :1])), *split(self, self.k(x)), *split(self, self.v(x))
        return project(self, attend(self, *heads))


class FewerHeadsCrossViT(CrossAttention):  # type: ignore[misc]
    """timm's attention for any number of heads: timm takes the width of a head from that of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels); the output is that of the first token."""
        heads = *split(self, self.wq(x[:, :1])), *split(self, self.wk(x)), *split(self, self.wv(x))
        return project(self, attend(self, *heads))


class FewerHeadsPool(AttentionPoolLatent):  # type: ignore[misc]
    """timm's pooling for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        if self.pos_embed is not None:
            x = x + self.pos_embed.unsqueeze(0).to(x.dtype)
        (q,) = split(self, self.q(self.latent.expand(x.shape[0], -1, -1)))
        k, v = split(self, self.kv(x), 2)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.fused_attn:
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        else:
            attended = maybe_add_mask((q * self.scale) @ k.transpose(-2, -1), attn_mask).softmax(dim=-1) @ v
        pooled = project(self, attended)
        if self.mlp is not None:
            pooled = pooled + self.mlp(self.norm(pooled))
        if self.pool == "token":
            return pooled[:, 0]
        return pooled.mean(1) if self.pool == "avg" else pooled


class FewerValuesCait(TalkingHeadAttn):  # type: ignore[misc]
    """timm's attention for any number of value heads: timm assumes as many as query heads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (batch, tokens, channels)."""
        batch, tokens, _ = x.shape
        width = (self.qkv.out_features - self.proj.in_features) // 2
        q, k, v = (
            values.reshape(batch, tokens, -1, width // self.num_heads).transpose(1, 2)
            for values in self.qkv(x).split((width, width, self.proj.in_features), dim=-1)
        )
        logits = self.proj_l(((q * self.scale) @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        weights = self.attn_drop(self.proj_w(logits.softmax(dim=-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        output: torch.Tensor = self.proj_drop(self.proj(joined(self, weights @ v)))
        return output


def _heads_of_pool(attention: Any) -> int:
    """0 if the queries or the outputs have no layer of their own."""
    has_layers = isinstance(attention.q, nn.Linear) and isinstance(attention.proj, nn.Linear)
    return int(attention.num_heads) if has_layers else 0


def _values(attention: Any) -> int:
    return int(attention.proj_w.out_features)


def _keep_values(attention: Any, kept: Sequence[int]) -> None:
    columns = head_columns(kept, attention.proj.in_features // _values(attention))
    before = attention.qkv.out_features - attention.proj.in_features
    keep_rows(attention.qkv, [*range(before), *(before + column for column in columns)])
    keep_rows(attention.proj_w, kept)
    keep_columns(attention.proj, columns)
    attention.__class__ = FewerValuesCait


_POOL = rule_of_parts({"q": 1, "kv": 2}, FewerHeadsPool)

RULES: dict[type[nn.Module], HeadRule] = {
    AttentionPoolLatent: replace(_POOL, heads=_heads_of_pool),
    ClassAttn: rule_of_parts({"q": 1, "k": 1, "v": 1}, FewerHeadsOfClassToken),
    CrossAttention: rule_of_parts({"wq": 1, "wk": 1, "wv": 1}, FewerHeadsCrossViT),
    TalkingHeadAttn: HeadRule("proj", _values, _keep_values),
}
