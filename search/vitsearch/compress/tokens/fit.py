"""Initialise the networks of DynamicViT in closed form, so that they rank tokens before any training.

Each network gets the linear function of its normalised input that comes nearest, over calibration images and within
each image, to the log of the attention that the class token will pay to the token in the next block (ridge regression).
The function passes through the GELUs unchanged in two channels of opposite sign, as `gelu(s) - gelu(-s) = s`; the
other channels keep their random weights and have no influence at first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitsearch.compress.one_thread import one_thread
from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.dynamicvit import PolicyBlock, Predictor

RIDGE = 1e-3


@torch.no_grad()
def fit_predictors(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Fit every network of `model` (in evaluation mode) on `batches` (n, C, H, W), in place.

    Networks are fitted in order; each sees the tokens that those before it keep.
    """
    vit = cast(VisionTransformer, model)
    streams = [vit.norm_pre(vit._pos_embed(vit.patch_embed(images))) for images in batches]
    blocks = [
        block for block in vit.blocks if not isinstance(block, nn.Identity)
    ]  # an identity replaces a dropped block
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if not isinstance(block, PolicyBlock):
            streams = [block(x) for x in streams]
            continue
        streams = [block.whole(x) for x in streams]
        if block.kept and following is not None:
            _fit(block, following, streams)
            streams = [block.drop(x) for x in streams]


def _fit(block: PolicyBlock, following: nn.Module, streams: list[torch.Tensor]) -> None:
    prefix, predictor = block.layout.prefix, block.predictor
    width = predictor.inner.in_features
    gram = torch.zeros(width, width, dtype=torch.float64, device=streams[0].device)
    right, rows = gram.new_zeros(width), 0
    for x in streams:
        features = _centred(predictor.norm(x[:, prefix:]))
        wanted = _centred(_attention_to_come(block, following, x).log().unsqueeze(2))
        gram, right, rows = gram + features.T @ features, right + features.T @ wanted[:, 0], rows + len(features)
    pull = RIDGE * gram.diagonal().mean() * torch.eye(width, dtype=gram.dtype, device=gram.device)
    with one_thread():
        slope = torch.linalg.solve(gram + pull, right)
    slope = (slope / (slope @ gram @ slope / rows).sqrt().clamp_min(1e-12)).to(streams[0].dtype)
    scores = torch.cat([(predictor.norm(x[:, prefix:]) @ slope).flatten() for x in streams])
    _write(predictor, slope, float(scores.quantile(1 - block.kept / (streams[0].shape[1] - prefix))))


def _centred(values: torch.Tensor) -> torch.Tensor:
    """Rows (images x tokens, columns) minus the mean of their image: only the ranking within an image matters."""
    return (values - values.mean(dim=1, keepdim=True)).flatten(0, 1).double()


def _attention_to_come(block: PolicyBlock, following: nn.Module, x: torch.Tensor) -> torch.Tensor:
    parts = cast(PolicyBlock, following)
    heads = attention.heads_of(parts.attn, cast(nn.Module, parts.norm1)(x))
    return attention.attention_received(parts.attn, heads, block.layout.prefix, block.layout.readers)


def _write(predictor: Predictor, slope: torch.Tensor, threshold: float) -> None:
    """Set the weights so that the two logits differ by twice `slope @ norm(x) - threshold`."""
    predictor.inner.weight[0], predictor.inner.weight[1] = slope, -slope
    predictor.inner.bias[:2] = 0
    for layer in [*cast(list[nn.Linear], list(predictor.hidden)), predictor.decide]:
        layer.weight[:2] = 0
        layer.weight[0, :2], layer.weight[1, :2] = torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0])
        layer.bias[:2] = 0
    predictor.decide.bias[0], predictor.decide.bias[1] = -threshold, threshold
