"""timm's plain attention over `qkv` and its MLP of two layers, for families that declare their structure.

`qkv` is laid out `[3, heads, head_dim]`, so a head owns three runs of its rows and one run of the columns of
`proj` (Dosovitskiy et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.layers import Attention, ConvMlp, Mlp
from timm.models.vision_transformer import Block
from torch import nn

from vitsearch.compress.tokens.base import TokenBlock
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch
from vitsearch.models.surgery import head_columns, keep_columns, keep_rows


def block_units(name: str, block: Any) -> BlockUnits:
    """The units of a block's `attn` and `mlp`; one that is not plain has none."""
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    heads = attention if is_plain_attention(attention) else None
    ffn = mlp if is_plain_mlp(mlp) else None
    is_supported = type(block) is Block or isinstance(block, TokenBlock)
    attends, mixes = branches(block) if is_supported else (None, None)
    return BlockUnits(
        name,
        heads.num_heads if heads else 0,
        heads.head_dim if heads else 0,
        heads.proj if heads else None,
        ffn.fc1 if ffn else None,
        ffn.fc2 if ffn else None,
        proj_branch=attends,
        fc2_branch=mixes,
        removable=is_supported and (heads is not None or ffn is not None),
    )


def branches(block: Any) -> tuple[Branch, Branch]:
    """The branches of `x + attn(norm1(x))`, then `x + mlp(norm2(x))`."""
    return Branch(block.norm1, block.norm2, at_input=True), Branch(block.norm2, block)


def is_plain_attention(module: Any) -> bool:
    """Whether heads are independent: a norm over all heads, or a gate, would make them depend on each other."""
    return type(module) is Attention and type(module.norm) is nn.Identity and module.gate is None


def is_plain_mlp(module: Any) -> bool:
    return type(module) in (Mlp, ConvMlp) and type(module.norm) is nn.Identity


def slice_attention(name: str, attention: Any, kept: Sequence[int]) -> None:
    """Keep the heads `kept` (ascending) of a plain attention, in place."""
    if not is_plain_attention(attention) or not kept:
        raise PlanError(f"{name}: cannot keep heads {list(kept)} of a {type(attention).__name__}")
    slice_qkv(attention, attention.head_dim, kept)
    attention.attn_dim = len(kept) * attention.head_dim


def slice_qkv(attention: Any, head_dim: int, kept: Sequence[int]) -> None:
    """Rows of `qkv` (laid out `[3, heads, head_dim]`), columns of `proj`, and `num_heads`."""
    columns, width = head_columns(kept, head_dim), attention.num_heads * head_dim
    keep_rows(attention.qkv, [part * width + column for part in range(3) for column in columns])
    keep_columns(attention.proj, columns)
    attention.num_heads = len(kept)
