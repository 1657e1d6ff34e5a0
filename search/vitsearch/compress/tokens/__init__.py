"""Token pruning for plain ViTs: blocks that pass fewer tokens on, so that unimportant tokens cost nothing.

    attention.py       timm's attention in steps: queries and keys, and the attention that each token receives
    base.py            protected tokens; blocks that pass fewer tokens on; rows by index
    topk.py            keep the most attended tokens
    evit.py            keep the most attended, fuse the others into one
    tome.py            merge the most similar tokens
    dynamicvit.py      let small networks choose: masks in training, the best tokens in evaluation
    fit.py             initialise these networks in closed form
    auxiliary_loss.py  the losses that train them

`vitsearch.core.token_counts` decides how many tokens leave each block. All counts are static, so graphs export
unchanged. Token pruning comes after heads and channels are cut and refitted, and before any training: checkpoints
hold the weights of a model to which `apply` was applied.
"""

from __future__ import annotations

from typing import Any, cast

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitsearch.compress.tokens.auxiliary_loss import auxiliary_loss
from vitsearch.compress.tokens.base import DroppingBlock, TokenBlock, TokenLayout, is_plain_block
from vitsearch.compress.tokens.dynamicvit import PolicyBlock
from vitsearch.compress.tokens.evit import EViTBlock
from vitsearch.compress.tokens.fit import fit_predictors
from vitsearch.compress.tokens.tome import MergingBlock
from vitsearch.compress.tokens.topk import TopKBlock
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.core.token_counts import METHODS
from vitsearch.errors import StageError

__all__ = ["TokenLayout", "apply", "fit_predictors", "is_plain_block", "auxiliary_loss"]


def apply(model: nn.Module, resolved: ResolvedPlan) -> None:
    """Replace blocks of `model` so that they pass on the numbers of tokens in `resolved`, in place.

    A resolved plan without tokens changes nothing. `StageError` when it does not fit the model, or when its
    method is unknown.
    """
    if not resolved.tokens:
        return
    vit = cast(VisionTransformer, model)
    layout = TokenLayout.of(vit)
    came = (int(vit.patch_embed.num_patches) + layout.prefix, *resolved.tokens[:-1])
    _check(vit, layout, came, resolved)
    if resolved.token_pruning_method == "tome":
        _merge(vit.blocks, layout, came, resolved.tokens)
    elif resolved.token_pruning_method == "dynamicvit":
        _decide(vit.blocks, layout, came, resolved.tokens)
    else:
        _drop(vit.blocks, layout, came, resolved)


_DROPPING: dict[str, tuple[type[DroppingBlock], int]] = {"topk": (TopKBlock, 0), "evit": (EViTBlock, 1)}
"""The block of each method, and the number of fused tokens that it adds."""


def _drop(blocks: Any, layout: TokenLayout, came: tuple[int, ...], resolved: ResolvedPlan) -> None:
    kind, added = _DROPPING[str(resolved.token_pruning_method)]
    for index, (before, left) in enumerate(zip(came, resolved.tokens, strict=True)):
        if left < before:
            _replace(blocks, index, kind(blocks[index], layout, left - layout.prefix - added))


def _merge(blocks: Any, layout: TokenLayout, came: tuple[int, ...], tokens: tuple[int, ...]) -> None:
    """Replace every block from the first that merges on, because their attention takes token sizes into account."""
    plain = [index for index, block in enumerate(blocks) if is_plain_block(block)]
    for index in plain:
        if tokens[index] < came[0]:
            patches, merged = came[index] - layout.prefix, came[index] - tokens[index]
            _replace(blocks, index, MergingBlock(blocks[index], layout, patches, merged, index == plain[-1]))


def _decide(blocks: Any, layout: TokenLayout, came: tuple[int, ...], tokens: tuple[int, ...]) -> None:
    """Replace every block from the first that chooses on, because their attention is masked in training."""
    plain = [index for index, block in enumerate(blocks) if is_plain_block(block)]
    for index in plain:
        if tokens[index] < came[0]:
            kept = tokens[index] - layout.prefix if tokens[index] < came[index] else 0
            _replace(blocks, index, PolicyBlock(blocks[index], layout, kept, index == plain[-1]))


def _replace(blocks: Any, index: int, block: TokenBlock) -> None:
    """Put `block` in training or evaluation mode like the block that it replaces; a new module is in training
    mode."""
    blocks[index] = block.train(blocks[index].training)


def _check(vit: VisionTransformer, layout: TokenLayout, came: tuple[int, ...], resolved: ResolvedPlan) -> None:
    if resolved.token_pruning_method not in METHODS:
        raise StageError(
            "tokens",
            "unknown",
            f"unknown token pruning method {resolved.token_pruning_method!r}; known: {', '.join(METHODS)}",
        )
    if len(resolved.tokens) != len(vit.blocks):
        wrong = f"tokens behind {len(resolved.tokens)} blocks, model of {len(vit.blocks)}"
        raise StageError("tokens", "mismatch", wrong)
    for block, before, left in zip(vit.blocks, came, resolved.tokens, strict=True):
        if not layout.prefix < left <= before or (left < before and not is_plain_block(block)):
            wrong = f"cannot leave {left} of {before} tokens behind a {type(block).__name__}"
            raise StageError("tokens", "mismatch", wrong)
