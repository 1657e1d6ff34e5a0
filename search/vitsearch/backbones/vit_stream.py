"""The residual stream of a plain ViT: which layers write to it and read it, and how to keep fewer of its channels.

Patches, positions, prefix tokens, `proj` and `fc2` write; `qkv`, `fc1` and the classifiers read, each through a
LayerNorm. The width of a head does not change, only its inputs and outputs get narrower.

A LayerNorm over fewer channels is another function, because its mean and variance cover only these channels. So a
narrower model does not equal the whole one with masked channels. It equals, to 1e-5, the whole one whose LayerNorms
take mean and variance over the kept channels and give zero for the others. The difference to the whole model is
fitted by `vitsearch.compress.prune_width`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from timm.layers import LayerScale, PatchEmbed
from timm.models.vision_transformer import Block
from torch import nn

from vitsearch.backbones.plain import is_plain_attention, is_plain_mlp
from vitsearch.compress.tokens.base import TokenBlock, is_plain_block
from vitsearch.models.backbone import Reader
from vitsearch.models.surgery import keep_columns, keep_layer_norm_channels, keep_of_table, keep_rows

TABLES = ("cls_token", "reg_token", "dist_token", "pos_embed")
WIDTHS = ("embed_dim", "num_features", "head_hidden_size")


def can_be_cut(vit: Any) -> bool:
    """Whether this module can cut every part of `vit` that touches the stream; tokens are not pruned yet."""
    blocks = all(is_plain_block(block) and is_plain_mlp(block.mlp) for block in _blocks(vit))
    plain = blocks and type(vit.patch_embed) is PatchEmbed and vit.attn_pool is None
    return (
        plain
        and all(isinstance(norm, nn.LayerNorm | nn.Identity) for norm in _norms(vit))
        and all(isinstance(head, nn.Linear) for head in _classifiers(vit))
    )


def keep(vit: Any, kept: Sequence[int]) -> None:
    """Drop the channels that are not in `kept`, in place."""
    for name in TABLES:
        if getattr(vit, name, None) is not None:
            setattr(vit, name, keep_of_table(getattr(vit, name), 2, kept))
    keep_rows(vit.patch_embed.proj, kept)
    for norm in _norms(vit):
        if isinstance(norm, nn.LayerNorm):
            keep_layer_norm_channels(norm, kept)
    for block in _blocks(vit):
        for layer in (block.attn.proj, block.mlp.fc2):
            keep_rows(layer, kept)
        for scale in (block.ls1, block.ls2):
            if isinstance(scale, LayerScale):
                scale.gamma = keep_of_table(scale.gamma, 0, kept)
    for layer in [*(reader.layer for reader in readers(vit)), *_classifiers(vit)]:
        keep_columns(layer, kept)
    for name in WIDTHS:
        setattr(vit, name, len(kept))


def readers(vit: Any) -> Iterator[Reader]:
    """The two readers of each plain block that is left, including blocks that prune tokens."""
    for index, block in enumerate(vit.blocks):
        is_supported = type(block) is Block or isinstance(block, TokenBlock)
        if is_supported and is_plain_attention(block.attn) and is_plain_mlp(block.mlp):
            yield Reader(f"blocks.{index}.attn.qkv", block.norm1, block.attn.qkv)
            yield Reader(f"blocks.{index}.mlp.fc1", block.norm2, block.mlp.fc1)


def _blocks(vit: Any) -> list[Any]:
    return [block for block in vit.blocks if not isinstance(block, nn.Identity)]


def _norms(vit: Any) -> list[Any]:
    """All norms on the stream, identities included."""
    inside = [norm for block in _blocks(vit) for norm in (block.norm1, block.norm2)]
    return [vit.patch_embed.norm, vit.norm_pre, *inside, vit.norm, vit.fc_norm]


def _classifiers(vit: Any) -> list[Any]:
    heads = vit.get_classifier()
    return list(heads) if isinstance(heads, tuple) else [heads]
