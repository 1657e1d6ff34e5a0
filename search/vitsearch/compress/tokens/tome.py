"""Merge similar patch tokens, and let a merged token count as many times as the patches that it holds (Bolya et al.,
"Token merging: your ViT but faster", ICLR 2023).

Between blocks the patches are stored in the order in which the next merge splits them: first every second one, then the
others. So nothing is moved before a merge, and a merge is one product with a matrix of zeros and sizes: in ONNX a third
of the nodes that gathering and scattering need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from vitsearch.compress.tokens.base import TokenBlock, TokenLayout


class Sized(NamedTuple):
    """Tokens (batch, tokens, channels) in split order, and the number of patches in each (batch, 1, tokens)."""

    x: torch.Tensor
    sizes: torch.Tensor


class MergingBlock(TokenBlock):
    """Merges `merged` of its `patches` patch tokens into others (0: it only takes sizes into account in its
    attention).

    From the first merging block on, blocks pass on `Sized`; the `last` of the model returns plain tokens.
    """

    def __init__(self, block: Any, layout: TokenLayout, patches: int, merged: int, last: bool) -> None:
        super().__init__(block)
        self.layout = layout
        self.patches = patches
        self.merged = merged
        self.last = last

    def forward(self, came: torch.Tensor | Sized) -> torch.Tensor | Sized:
        """Tokens (batch, tokens, channels); from the first merging block to the last one with their sizes."""
        if isinstance(came, torch.Tensor):
            x, sizes = came[:, _split_order(self.layout.prefix, self.patches)], torch.ones_like(came[:, None, :, 0])
            x, heads = self.attention_branch(x)
        else:
            x, sizes = came
            x, heads = self.attention_branch(x, bias=sizes.log().unsqueeze(1))
        if self.merged:
            goes_to = destinations(heads.keys.mean(1), self.layout.prefix, self.patches, self.merged)
            x, sizes = merge(x, sizes, goes_to, _split_order(self.layout.prefix, self.patches - self.merged))
        x = self.mlp_branch(x)
        return x if self.last else Sized(x, sizes)

    def extra_repr(self) -> str:
        return f"merged={self.merged}"


@torch.no_grad()
def destinations(features: torch.Tensor, prefix: int, patches: int, merged: int) -> torch.Tensor:
    """The destination slot of each token in split order, `features` (batch, tokens, channels): (batch, tokens).

    The `merged` tokens of the first half that are most similar (cosine) to one of the second half go to the slot of
    that token. All others keep slots of their own: first the prefix, then the first half, then the second.
    """
    features = features / features.norm(dim=-1, keepdim=True)
    first_half, second_half = (patches + 1) // 2, patches // 2
    first, second = features[:, prefix : prefix + first_half], features[:, prefix + first_half :]
    similarity, partner = (first @ second.transpose(1, 2)).max(dim=2)
    chosen = similarity.topk(merged, dim=1, sorted=False).indices
    going = (chosen.unsqueeze(2) == torch.arange(first_half, device=features.device)).sum(dim=1)
    front = prefix + first_half - merged
    first_goes = torch.where(going > 0, front + partner, prefix - 1 + (1 - going).cumsum(dim=1))
    others = [*range(prefix), *[0] * first_half, *range(front, front + second_half)]
    return functional.pad(first_goes, (prefix, second_half)) + torch.tensor(others, device=features.device)


def merge(x: torch.Tensor, sizes: torch.Tensor, goes_to: torch.Tensor, slots: list[int]) -> Sized:
    """Means of the tokens `x` (batch, tokens, channels) that go to each of `slots`, weighted by their `sizes`
    (batch, 1, tokens); `goes_to` (batch, tokens) is the slot of each.
    """
    rows = torch.tensor(slots, device=x.device).unsqueeze(1)
    weights = (goes_to.unsqueeze(1) == rows).to(x.dtype) * sizes
    total = weights.sum(dim=2, keepdim=True)
    return Sized(weights @ x / total, total.transpose(1, 2))


def _split_order(prefix: int, patches: int) -> list[int]:
    """Indices of the tokens: the prefix, then every second patch, then the other patches."""
    return [*range(prefix), *range(prefix, prefix + patches, 2), *range(prefix + 1, prefix + patches, 2)]
