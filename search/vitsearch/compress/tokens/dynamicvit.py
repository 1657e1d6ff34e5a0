"""Let a small network decide in front of some blocks which patch tokens go on (Rao et al., "DynamicViT",
NeurIPS 2021).

In training nobody goes: each decision is drawn (Gumbel-softmax, straight through) and a mask hides from
attention who was dropped, so that the networks learn from the loss; what they learn from beside it
stands in :mod:`.lessons`. In evaluation a fixed number of those with the best scores goes on. Before any
training :mod:`.fit` gives the networks a start in closed form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.base import Layout, TokenBlock, most, take

EPSILON = 1e-6
SEED = 0


class Masked(NamedTuple):
    """All tokens (batch, tokens, channels) of a model in training, and who is still there: 0 or 1
    (batch, tokens), through which gradients flow to the decisions."""

    x: torch.Tensor
    there: torch.Tensor


class Predictor(nn.Module):
    """Two logits for each token, go on and drop, from its own features and the mean of those still there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width // 2), nn.Linear(width // 2, width // 4)])
        self.decide = nn.Linear(width // 4, 2)

    def forward(self, patches: torch.Tensor, there: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, tokens, 2) for ``patches`` (batch, tokens, channels); ``there`` (batch, tokens)."""
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
    """A block of a model that decides. With ``kept`` above 0 it decides behind its MLP, on that many patches.

    In training blocks behind the first decision pass on :class:`Masked`; the ``last`` gives plain tokens.
    """

    def __init__(self, block: Any, layout: Layout, kept: int, last: bool) -> None:
        super().__init__(block)
        self.layout = layout
        self.kept = kept
        self.last = last
        if kept:
            self.predictor = _seeded(Predictor, block.attn.qkv.in_features)

    def forward(self, came: torch.Tensor | Masked) -> torch.Tensor | Masked:
        x, there = (came, None) if isinstance(came, torch.Tensor) else came
        x = self.whole(x, there)
        if self.kept and self.training:
            x, there = self.mask(x, there)
        elif self.kept:
            x = self.drop(x)
        return x if there is None or self.last else Masked(x, there)

    def whole(self, x: torch.Tensor, there: torch.Tensor | None = None) -> torch.Tensor:
        """The block as it was, but for who is not ``there``."""
        if there is None:
            return self.mlp_branch(self.attention_branch(x)[0])
        parts: Any = self
        mixed = masked_attention(parts.attn, parts.norm1(x), there)
        return self.mlp_branch(x + parts.drop_path1(parts.ls1(mixed)))

    def mask(self, x: torch.Tensor, there: torch.Tensor | None) -> Masked:
        """Who was dropped stays dropped."""
        prefix = self.layout.prefix
        before = x.new_ones(x.shape[:2]) if there is None else there
        logits = self.predictor(x[:, prefix:], before[:, prefix:])
        drawn = functional.gumbel_softmax(logits.float(), hard=True)[..., 0]
        return Masked(x, torch.cat([before[:, :prefix], before[:, prefix:] * drawn], dim=1))

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        prefix = self.layout.prefix
        logits = self.predictor(x[:, prefix:])
        index = most(logits[..., 0] - logits[..., 1], self.kept) + prefix
        return self.drop_from(x, lambda stream: torch.cat([stream[:, :prefix], take(stream, index)], dim=1))

    def extra_repr(self) -> str:
        return f"kept={self.kept}"


def masked_attention(layer: Any, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Attention to those who are ``there`` (batch, tokens) and to oneself, whom gradients reach too.

    Masked weights are multiplied, not set to minus infinity: so a token that was dropped still tells
    the decision what it would have given.
    """
    queries, keys, values = attention.heads_of(layer, x)
    scores = attention.scores_of(layer, queries, keys).float()
    seen = there[:, None, None, :].float()
    seen = seen + (1 - seen) * torch.eye(x.shape[1], device=x.device)
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp() * seen
    weights = (weights + EPSILON / x.shape[1]) / (weights.sum(dim=-1, keepdim=True) + EPSILON)
    return attention.join(layer, layer.attn_drop(weights.to(values.dtype)) @ values)


def _seeded(kind: type[Predictor], width: int) -> Predictor:
    """As timm draws linear layers of ViTs, always alike: a plan that is built twice is the same model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        made = kind(width)
        for module in made.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
    return made
