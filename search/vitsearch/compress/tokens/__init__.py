"""Plain ViTs that carry fewer tokens from block to block: the tokens that do not matter cost nothing.

    attention.py  timm's attention, opened: queries and keys, who attends to whom
    base.py       which tokens are protected; blocks that leave fewer; rows by index
    topk.py       keep the most attended
    evit.py       keep the most attended, fuse the others into one
    tome.py       merge the most alike
    dynamicvit.py let small networks decide: masks in training, the best in evaluation
    fit.py        a start for these networks, in closed form
    lessons.py    what they learn from

How many tokens leave each block is decided by :mod:`vitsearch.core.token_counts`. All counts are static, so
graphs export as they are. Token pruning comes after heads and channels are cut and refitted, and before
anything is trained: checkpoints hold the weights of a model to which :func:`apply` was done.
"""

from __future__ import annotations

from typing import Any, cast

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitsearch.compress.tokens.auxiliary_loss import auxiliary_loss
from vitsearch.compress.tokens.base import DroppingBlock, Layout, TokenBlock, is_plain_block
from vitsearch.compress.tokens.dynamicvit import PolicyBlock
from vitsearch.compress.tokens.evit import EViTBlock
from vitsearch.compress.tokens.fit import fit_predictors
from vitsearch.compress.tokens.tome import MergingBlock
from vitsearch.compress.tokens.topk import TopKBlock
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.core.token_counts import METHODS
from vitsearch.errors import StageError

__all__ = ["Layout", "apply", "fit_predictors", "is_plain_block", "auxiliary_loss"]


def apply(model: nn.Module, resolved: ResolvedPlan) -> None:
    """Make the blocks of ``model`` leave the tokens that ``effect`` says, in place.

    What ``effect`` names no tokens for is not touched. :class:`StageError` when the effect is not of
    this model, or names a method that is not known.
    """
    if not resolved.tokens:
        return
    vit = cast(VisionTransformer, model)
    layout = Layout.of(vit)
    came = (int(vit.patch_embed.num_patches) + layout.prefix, *resolved.tokens[:-1])
    _check(vit, layout, came, resolved)
    if resolved.token_pruning_method == "tome":
        _merge(vit.blocks, layout, came, resolved.tokens)
    elif resolved.token_pruning_method == "dynamicvit":
        _decide(vit.blocks, layout, came, resolved.tokens)
    else:
        _drop(vit.blocks, layout, came, resolved)


_DROPPING: dict[str, tuple[type[DroppingBlock], int]] = {"topk": (TopKBlock, 0), "evit": (EViTBlock, 1)}
"""The block of each method, and how many tokens it makes."""


def _drop(blocks: Any, layout: Layout, came: tuple[int, ...], resolved: ResolvedPlan) -> None:
    kind, made = _DROPPING[str(resolved.token_pruning_method)]
    for index, (before, left) in enumerate(zip(came, resolved.tokens, strict=True)):
        if left < before:
            _replace(blocks, index, kind(blocks[index], layout, left - layout.prefix - made))


def _merge(blocks: Any, layout: Layout, came: tuple[int, ...], tokens: tuple[int, ...]) -> None:
    """Every block from the first that merges on: their attention counts sizes."""
    plain = [index for index, block in enumerate(blocks) if is_plain_block(block)]
    for index in plain:
        if tokens[index] < came[0]:
            patches, merged = came[index] - layout.prefix, came[index] - tokens[index]
            _replace(blocks, index, MergingBlock(blocks[index], layout, patches, merged, index == plain[-1]))


def _decide(blocks: Any, layout: Layout, came: tuple[int, ...], tokens: tuple[int, ...]) -> None:
    """Every block from the first that decides on: in training their attention is masked."""
    plain = [index for index, block in enumerate(blocks) if is_plain_block(block)]
    for index in plain:
        if tokens[index] < came[0]:
            kept = tokens[index] - layout.prefix if tokens[index] < came[index] else 0
            _replace(blocks, index, PolicyBlock(blocks[index], layout, kept, index == plain[-1]))


def _replace(blocks: Any, index: int, block: TokenBlock) -> None:
    """In the mode that the block was in: a fresh module would train."""
    blocks[index] = block.train(blocks[index].training)


def _check(vit: VisionTransformer, layout: Layout, came: tuple[int, ...], resolved: ResolvedPlan) -> None:
    if resolved.token_pruning_method not in METHODS:
        raise StageError("tokens", "unknown", f"no method {resolved.token_pruning_method!r} of token pruning")
    if len(resolved.tokens) != len(vit.blocks):
        told = f"tokens behind {len(resolved.tokens)} blocks, model of {len(vit.blocks)}"
        raise StageError("tokens", "mismatch", told)
    for block, before, left in zip(vit.blocks, came, resolved.tokens, strict=True):
        if not layout.prefix < left <= before or (left < before and not is_plain_block(block)):
            told = f"cannot leave {left} of {before} tokens behind a {type(block).__name__}"
            raise StageError("tokens", "mismatch", told)
