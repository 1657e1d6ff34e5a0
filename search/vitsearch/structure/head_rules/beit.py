"""BEiT: `qkv` with a bias outside of the layer (one for queries, one for values), and relative positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.beit import Attention
from torch import nn

from vitsearch.models.surgery import head_columns, keep_of_table
from vitsearch.structure.head_rules.rule import (
    HeadRule,
    attend,
    head_dim_of,
    keep_parts,
    number_of_heads,
    project,
    remember_kept,
    split,
)


class FewerHeadsBeit(Attention):  # type: ignore[misc]  # timm has no types
    """timm's attention for any number of heads: timm reshapes the output to the width of the input."""

    def forward(self, x: torch.Tensor, shared_rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        """`x`: (batch, tokens, channels); `shared_rel_pos_bias`: (heads of the whole model, tokens, tokens)."""
        qkv = self.qkv(x)  # called as a layer, so that hooks see its input
        if self.q_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, self.k_bias, self.v_bias))
        q, k, v = split(self, qkv, 3)
        bias = None if self.relative_position_bias_table is None else self._get_rel_pos_bias()
        if shared_rel_pos_bias is not None:
            shared = shared_rel_pos_bias.index_select(-3, self.kept_heads)
            bias = shared if bias is None else bias + shared
        return project(self, attend(self, q, k, v, bias))


def _keep(attention: Any, kept: Sequence[int]) -> None:
    remember_kept(attention, kept)
    columns = head_columns(kept, head_dim_of(attention))
    if attention.q_bias is not None:
        attention.q_bias = keep_of_table(attention.q_bias, 0, columns)
        attention.v_bias = keep_of_table(attention.v_bias, 0, columns)
        attention.k_bias = attention.k_bias[: len(columns)].clone()  # zeros
    if attention.relative_position_bias_table is not None:
        attention.relative_position_bias_table = keep_of_table(attention.relative_position_bias_table, 1, kept)
    keep_parts(attention, {"qkv": 3}, kept)
    attention.__class__ = FewerHeadsBeit


RULES: dict[type[nn.Module], HeadRule] = {Attention: HeadRule("proj", number_of_heads, _keep)}
