"""Merge similar patch tokens, and let a merged one count for as many as it holds (Bolya et al., "Token
merging: your ViT but faster", ICLR 2023).

Between blocks the patches stand as they are dealt next: those of the first hand (every second one), then
those of the second. So nothing is moved before a merge, and a merge is one product with a matrix of zeros
and sizes: in ONNX a third of the nodes that gathering and scattering need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from vitsearch.compress.tokens.base import Layout, TokenBlock


class Sized(NamedTuple):
    """Tokens (batch, tokens, channels), dealt, and how many patches each holds (batch, 1, tokens)."""

    x: torch.Tensor
    sizes: torch.Tensor


class MergingBlock(TokenBlock):
    """Takes ``patches`` patch tokens and leaves ``merged`` of them fewer (0: only its attention counts sizes).

    From the first that merges on, blocks pass on :class:`Sized`; the ``last`` of the model gives plain
    tokens again.
    """

    def __init__(self, block: Any, layout: Layout, patches: int, merged: int, last: bool) -> None:
        super().__init__(block)
        self.layout = layout
        self.patches = patches
        self.merged = merged
        self.last = last

    def forward(self, came: torch.Tensor | Sized) -> torch.Tensor | Sized:
        if isinstance(came, torch.Tensor):
            x, sizes = came[:, _dealt(self.layout.prefix, self.patches)], torch.ones_like(came[:, None, :, 0])
            x, heads = self.attention_branch(x)
        else:
            x, sizes = came
            x, heads = self.attention_branch(x, bias=sizes.log().unsqueeze(1))
        if self.merged:
            goes_to = destinations(heads.keys.mean(1), self.layout.prefix, self.patches, self.merged)
            x, sizes = merge(x, sizes, goes_to, _dealt(self.layout.prefix, self.patches - self.merged))
        x = self.mlp_branch(x)
        return x if self.last else Sized(x, sizes)

    def extra_repr(self) -> str:
        return f"merged={self.merged}"


@torch.no_grad()
def destinations(features: torch.Tensor, prefix: int, patches: int, merged: int) -> torch.Tensor:
    """Which place each of the dealt tokens, ``features`` (batch, tokens, channels), goes to: (batch, tokens).

    The ``merged`` of the first hand that are most like one of the second (cosine) go to its place. The
    others keep places of their own: first the prefix, then the first hand, then the second.
    """
    features = features / features.norm(dim=-1, keepdim=True)
    first_hand, second_hand = (patches + 1) // 2, patches // 2
    first, second = features[:, prefix : prefix + first_hand], features[:, prefix + first_hand :]
    likeness, partner = (first @ second.transpose(1, 2)).max(dim=2)
    chosen = likeness.topk(merged, dim=1, sorted=False).indices
    going = (chosen.unsqueeze(2) == torch.arange(first_hand, device=features.device)).sum(dim=1)
    front = prefix + first_hand - merged
    first_goes = torch.where(going > 0, front + partner, prefix - 1 + (1 - going).cumsum(dim=1))
    others = [*range(prefix), *[0] * first_hand, *range(front, front + second_hand)]
    return functional.pad(first_goes, (prefix, second_hand)) + torch.tensor(others, device=features.device)


def merge(x: torch.Tensor, sizes: torch.Tensor, goes_to: torch.Tensor, places: list[int]) -> Sized:
    """Means of the tokens that go to each of ``places``, weighted by their sizes."""
    rows = torch.tensor(places, device=x.device).unsqueeze(1)
    weights = (goes_to.unsqueeze(1) == rows).to(x.dtype) * sizes
    total = weights.sum(dim=2, keepdim=True)
    return Sized(weights @ x / total, total.transpose(1, 2))


def _dealt(prefix: int, patches: int) -> list[int]:
    """Tokens in the order in which they are dealt."""
    return [*range(prefix), *range(prefix, prefix + patches, 2), *range(prefix + 1, prefix + patches, 2)]
