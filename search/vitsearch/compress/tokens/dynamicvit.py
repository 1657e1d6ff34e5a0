"""Small networks in some blocks choose which patch tokens go on (Rao et al., "DynamicViT", NeurIPS 2021).

In training all tokens stay: each decision is drawn (Gumbel-softmax, straight-through), and a mask hides the dropped
tokens from attention, so that the networks learn from the loss and from `.auxiliary_loss`. In evaluation a fixed
number of tokens with the best scores goes on. Before any training `.fit` initialises the networks in closed form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.base import TokenBlock, TokenLayout, most, take

EPSILON = 1e-6
SEED = 0


class Masked(NamedTuple):
    """All tokens (batch, tokens, channels) of a model in training, and a mask (batch, tokens) of 0 or 1.

    `there` is 1 for tokens that are not dropped; gradients flow through it to the decisions.
    """

    x: torch.Tensor
    there: torch.Tensor


class Predictor(nn.Module):
    """Two logits for each token, keep and drop, from its own features and the mean over the tokens not dropped."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width // 2), nn.Linear(width // 2, width // 4)])
        self.decide = nn.Linear(width // 4, 2)

    def forward(self, patches: torch.Tensor, there: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (batch, tokens, 2) of `patches` (batch, tokens, channels); `there` (batch, tokens) is the mask."""
        inner = functional.gelu(self.inner(self.norm(patches)))
        half = self.inner.out_features - self.inner.out_features // 2
        own, shared = inner[..., :half], inner[..., half:]
        if there is None:
            mean = shared.mean(dim=1, keepdim=True)
        else:
            mean = (shared * there.unsqueeze(2)).sum(1, keepdim=True) / there.sum(1).clamp_min(1.0)[:, None, None]
        x = torch.cat([own, mean.expand(-1, own.shape[1], -1)], dim=2)
        for layer in self.hidden:
            x = functional.gelu(layer(x))
        logits: torch.Tensor = self.decide(x)
        return logits


class PolicyBlock(TokenBlock):
    """A block of a model whose tokens are chosen by networks.

    With `kept` above 0 the block chooses that many patches behind its MLP. In training, blocks behind the first
    decision pass on `Masked`; the `last` returns plain tokens.
    """

    def __init__(self, block: Any, layout: TokenLayout, kept: int, last: bool) -> None:
        super().__init__(block)
        self.layout = layout
        self.kept = kept
        self.last = last
        if kept:
            self.predictor = _seeded(Predictor, block.attn.qkv.in_features)

    def forward(self, came: torch.Tensor | Masked) -> torch.Tensor | Masked:
        """Tokens (batch, tokens, channels), with their mask (batch, tokens) behind a decision in training."""
        x, there = (came, None) if isinstance(came, torch.Tensor) else came
        x = self.whole(x, there)
        if self.kept and self.training:
            x, there = self.mask(x, there)
        elif self.kept:
            x = self.drop(x)
        return x if there is None or self.last else Masked(x, there)

    def whole(self, x: torch.Tensor, there: torch.Tensor | None = None) -> torch.Tensor:
        """The block without its decision: `x` (batch, tokens, channels), ignoring tokens that are not `there` (batch,
        tokens)."""
        if there is None:
            return self.mlp_branch(self.attention_branch(x)[0])
        parts: Any = self
        mixed = masked_attention(parts.attn, parts.norm1(x), there)
        return self.mlp_branch(x + parts.drop_path1(parts.ls1(mixed)))

    def mask(self, x: torch.Tensor, there: torch.Tensor | None) -> Masked:
        """Draw which of the tokens `x` (batch, tokens, channels) stay, among those not dropped before (`there`, (batch,
        tokens))."""
        prefix = self.layout.prefix
        before = x.new_ones(x.shape[:2]) if there is None else there
        logits = self.predictor(x[:, prefix:], before[:, prefix:])
        drawn = functional.gumbel_softmax(logits.float(), hard=True)[..., 0]
        return Masked(x, torch.cat([before[:, :prefix], before[:, prefix:] * drawn], dim=1))

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        """`x` (batch, tokens, channels) with the prefix and the `kept` patches that the network likes best."""
        prefix = self.layout.prefix
        logits = self.predictor(x[:, prefix:])
        index = most(logits[..., 0] - logits[..., 1], self.kept) + prefix
        return self.drop_from(x, lambda stream: torch.cat([stream[:, :prefix], take(stream, index)], dim=1))

    def extra_repr(self) -> str:
        return f"kept={self.kept}"


def masked_attention(layer: Any, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Attention of each token to those that are `there` (batch, tokens) and to itself.

    Masked weights are multiplied by zero, not set to minus infinity, so that the decision gets a gradient for dropped
    tokens too.
    """
    queries, keys, values = attention.heads_of(layer, x)
    scores = attention.scores_of(layer, queries, keys).float()
    seen = there[:, None, None, :].float()
    seen = seen + (1 - seen) * torch.eye(x.shape[1], device=x.device)
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp() * seen
    weights = (weights + EPSILON / x.shape[1]) / (weights.sum(dim=-1, keepdim=True) + EPSILON)
    return attention.join(layer, layer.attn_drop(weights.to(values.dtype)) @ values)


def _seeded(kind: type[Predictor], width: int) -> Predictor:
    """Draw weights as timm does for ViTs, from a fixed seed, so that building a plan twice gives the same model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        predictor = kind(width)
        for module in predictor.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
    return predictor
