"""Losses that train the networks of DynamicViT, in addition to the loss of the fine-tune (Rao et al. 2021):

2    (share of tokens kept - target share)^2           mean over the decisions and images
0.5  distance of the outputs to those of the unpruned model
0.5  mean squared difference to the last tokens of the unpruned model, over the tokens that are left
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitsearch.compress.tokens.dynamicvit import Masked, PolicyBlock
from vitsearch.tasks import Task

RATIO_WEIGHT, OUTPUTS_WEIGHT, TOKENS_WEIGHT = 2.0, 0.5, 0.5

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@contextmanager
def auxiliary_loss(model: nn.Module, unpruned: nn.Module, task: Task) -> Iterator[Loss]:
    """Yield `loss(inputs, outputs)`, to be called after each forward pass of `model` in training.

    `unpruned` sees the same images. Its tokens are compared only where their number and channels agree: not when the
    networks are frozen, nor when channels of the stream were cut.
    """
    vit, teacher = cast(VisionTransformer, model), cast(VisionTransformer, unpruned.eval())
    deciding = [block for block in vit.blocks if isinstance(block, PolicyBlock) and block.kept]
    seen: dict[nn.Module, torch.Tensor] = {}

    def keep(module: nn.Module, _: Any, out: torch.Tensor | Masked) -> None:
        seen[module] = out if isinstance(out, torch.Tensor) else out.there

    def loss(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            tokens = teacher.forward_features(inputs)
            answer = teacher.forward_head(tokens).float()
        masks = [(block, seen[block]) for block in deciding if block.training]
        total = OUTPUTS_WEIGHT * task.distance(outputs.float(), answer, 1.0)
        if masks:
            total = total + RATIO_WEIGHT * torch.stack([_ratio_loss(*mask) for mask in masks]).mean()
        if masks and seen[vit.norm].shape == tokens.shape:
            total = total + TOKENS_WEIGHT * _token_loss(seen[vit.norm].float(), tokens.float(), masks[-1][1])
        return total

    teacher.to(next(model.parameters()).device)
    hooks = [module.register_forward_hook(keep) for module in [*deciding, vit.norm]]
    try:
        yield loss
    finally:
        for hook in hooks:
            hook.remove()


def _ratio_loss(block: PolicyBlock, there: torch.Tensor) -> torch.Tensor:
    patches = there[:, block.layout.prefix :]
    return ((patches.mean(dim=1) - block.kept / patches.shape[1]) ** 2).mean()


def _token_loss(tokens: torch.Tensor, others: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    left = there.detach()
    return ((tokens - others).square().mean(dim=2) * left).sum() / left.sum()
