"""GCViT: attention inside of windows; the queries of some blocks are an input, computed from the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.gcvit import WindowAttentionGlobal
from torch import nn

from vitsearch.structure.head_rules.relative_positions import keep_of_positions
from vitsearch.structure.head_rules.rule import (
    HeadRule,
    head_dim_of,
    keep_parts,
    number_of_heads,
    project,
    remember_kept,
    split,
)


class FewerHeadsGCViT(WindowAttentionGlobal):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, q_global: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (windows, tokens, channels); `q_global`: queries of all heads of the whole model, for each image."""
        windows, tokens, _ = x.shape
        if self.use_global and q_global is not None:
            k, v = split(self, self.qkv(x), 2)
            of_images = q_global.reshape(q_global.shape[0], tokens, -1, head_dim_of(self))
            queries = of_images.index_select(2, self.kept_heads).transpose(1, 2)
            q = queries.repeat_interleave(windows // q_global.shape[0], dim=0)
        else:
            q, k, v = split(self, self.qkv(x), 3)
        logits = self.rel_pos((q * self.scale) @ k.transpose(-2, -1))
        return project(self, self.attn_drop(logits.softmax(dim=-1)) @ v)


def _keep(attention: Any, kept: Sequence[int]) -> None:
    remember_kept(attention, kept)
    keep_of_positions(attention.rel_pos, kept)
    keep_parts(attention, {"qkv": 2 if attention.use_global else 3}, kept)
    attention.__class__ = FewerHeadsGCViT


RULES: dict[type[nn.Module], HeadRule] = {WindowAttentionGlobal: HeadRule("proj", number_of_heads, _keep)}
