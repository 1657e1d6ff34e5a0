"""Parts that all methods of token pruning share: protected tokens, and blocks that pass fewer tokens on.

A pruning block replaces timm's and holds the same parts under the same names, so that weights, the units of the family
and everything that replaces a layer work as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from timm.layers import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.attention import Heads

PARTS = ("norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2")


@dataclass(frozen=True)
class TokenLayout:
    """The first `prefix` tokens are never pruned; the classifier reads the first `readers` (0: all patches)."""

    prefix: int
    readers: int

    @classmethod
    def of(cls, vit: VisionTransformer) -> TokenLayout:
        if vit.attn_pool is not None or vit.global_pool != "token":
            return cls(int(vit.num_prefix_tokens), 0)
        return cls(int(vit.num_prefix_tokens), 2 if isinstance(vit, VisionTransformerDistilled) else 1)


def is_plain_block(module: Any) -> bool:
    """Whether this module can replace a block; it would ignore a gate or a norm over all heads."""
    if type(module) is not Block or type(module.attn) is not Attention:
        return False
    return type(module.attn.norm) is nn.Identity and module.attn.gate is None


class TokenBlock(nn.Module):
    """timm's plain block (Dosovitskiy et al. 2021), split between attention and MLP.

    Subclasses drop or fuse tokens in evaluation through `drop_from`.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        for name in PARTS:
            setattr(self, name, getattr(block, name))

    def attention_branch(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> tuple[torch.Tensor, Heads]:
        """`x` (batch, tokens, channels) behind the attention, and the heads of that attention."""
        parts = cast(Any, self)
        heads = attention.heads_of(parts.attn, parts.norm1(x))
        return x + parts.drop_path1(parts.ls1(attention.attend(parts.attn, heads, bias))), heads

    def drop_from(self, x: torch.Tensor, how: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Apply `how`, a linear map that is the same in every channel, to `x` (batch, tokens, channels).

        The sequential refit replaces this method to apply the same map to the outputs of the base.
        """
        return how(x)

    def mlp_branch(self, x: torch.Tensor) -> torch.Tensor:
        """`x` (batch, tokens, channels) behind the MLP."""
        parts = cast(Any, self)
        behind: torch.Tensor = x + parts.drop_path2(parts.ls2(parts.mlp(parts.norm2(x))))
        return behind


class DroppingBlock(TokenBlock):
    """Keeps the `kept` most attended patch tokens; the others are dropped between attention and MLP."""

    def __init__(self, block: Any, layout: TokenLayout, kept: int) -> None:
        super().__init__(block)
        self.layout = layout
        self.kept = kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` (batch, tokens, channels) behind the block, with the prefix and `kept` patches."""
        x, heads = self.attention_branch(x)
        attended = attention.attention_received(self.attn, heads, self.layout.prefix, self.layout.readers)
        return self.mlp_branch(self.drop_from(x, partial(self.reduce, attended=attended)))

    def reduce(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """`x` (batch, tokens, channels) with fewer tokens; `attended` (batch, patches) ranks the patches."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"kept={self.kept}"


def most(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices (batch, count) of the largest `scores` (batch, n), unsorted: attention does not depend on the order."""
    return scores.topk(count, dim=1, sorted=False).indices


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows `index` (batch, count) of `x` (batch, n, channels).

    One index into all rows of the batch becomes an ONNX Gather, which copies whole rows; `torch.gather` would
    become a GatherElements, which looks up every number separately.
    """
    batch, tokens, _ = x.shape
    first = torch.arange(batch, device=x.device).unsqueeze(1) * tokens
    return x.flatten(0, 1)[index + first]
