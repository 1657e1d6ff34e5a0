"""LeViT, EfficientFormer and TinyViT: narrow queries and keys, and a row of position biases for each head.

`qkv` is laid out `[heads, k | k | v]`. LeViT's attention between two stages has `kv` `[heads, k | v]` and `q`
`[heads, k]`. Behind every layer of LeViT is a batch norm. timm's forward accepts any number of heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.efficientformer import Attention as EfficientFormerAttention
from timm.models.levit import Attention, AttentionDownsample
from timm.models.tiny_vit import Attention as TinyViTAttention
from torch import nn

from vitsearch.models.surgery import head_columns, keep_columns, keep_of_table, keep_rows
from vitsearch.structure.head_rules.rule import HeadRule, keep_rows_and_norm, number_of_heads


def _keep(attention: Any, kept: Sequence[int]) -> None:
    qkv = attention.qkv
    keep_rows_and_norm(qkv.linear, qkv.bn, head_columns(kept, 2 * attention.key_dim + attention.val_dim))
    _keep_output(attention, kept)


def _keep_downsample(attention: Any, kept: Sequence[int]) -> None:
    key, kv, q = attention.key_dim, attention.kv, attention.q.ln
    keep_rows_and_norm(kv.linear, kv.bn, head_columns(kept, key + attention.val_dim))
    keep_rows_and_norm(q.linear, q.bn, head_columns(kept, key))
    _keep_output(attention, kept)


def _keep_output(attention: Any, kept: Sequence[int]) -> None:
    keep_columns(attention.proj.ln.linear, head_columns(kept, attention.val_dim))
    _keep_biases(attention, kept)
    _count(attention, kept)


def _keep_efficientformer(attention: Any, kept: Sequence[int]) -> None:
    _keep_without_norms(attention, kept)
    _count(attention, kept)


def _keep_tiny_vit(attention: Any, kept: Sequence[int]) -> None:
    _keep_without_norms(attention, kept)
    attention.out_dim = len(kept) * attention.val_dim


def _keep_without_norms(attention: Any, kept: Sequence[int]) -> None:
    keep_rows(attention.qkv, head_columns(kept, 2 * attention.key_dim + attention.val_dim))
    keep_columns(attention.proj, head_columns(kept, attention.val_dim))
    _keep_biases(attention, kept)


def _count(attention: Any, kept: Sequence[int]) -> None:
    attention.key_attn_dim = len(kept) * attention.key_dim
    attention.val_attn_dim = len(kept) * attention.val_dim


def _keep_biases(attention: Any, kept: Sequence[int]) -> None:
    attention.attention_biases = keep_of_table(attention.attention_biases, 0, kept)
    attention.attention_bias_cache = {}
    attention.num_heads = len(kept)


RULES: dict[type[nn.Module], HeadRule] = {
    Attention: HeadRule("proj.ln.linear", number_of_heads, _keep),
    AttentionDownsample: HeadRule("proj.ln.linear", number_of_heads, _keep_downsample),
    EfficientFormerAttention: HeadRule("proj", number_of_heads, _keep_efficientformer),
    TinyViTAttention: HeadRule("proj", number_of_heads, _keep_tiny_vit),
}
