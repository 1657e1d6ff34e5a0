"""MobileNetV4 (hybrid): all heads share their keys and values, so that a head is its queries and its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.layers.attention2d import MultiQueryAttention2d
from torch import nn

from vitsearch.models.surgery import head_columns, keep_columns, keep_rows
from vitsearch.structure.head_rules.rule import HeadRule, number_of_heads


def _keep(attention: Any, kept: Sequence[int]) -> None:
    keep_rows(attention.query.proj, head_columns(kept, attention.key_dim))
    keep_columns(attention.output.proj, head_columns(kept, attention.value_dim))
    attention.num_heads = len(kept)


RULES: dict[type[nn.Module], HeadRule] = {
    MultiQueryAttention2d: HeadRule("output.proj", number_of_heads, _keep),
}
