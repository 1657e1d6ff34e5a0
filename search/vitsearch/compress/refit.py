"""Closed-form repair of a cut layer: what stays takes over what was cut, as far as it can be foretold from it.

Parallel least squares on the base's own statistics, one linear layer at a time, no forward pass. With
kept inputs S, mean mu and covariance C of all inputs, weights W, bias b:

    W' = (W C[:, S] + R W[:, S]) (C[S, S] + R I)^-1        b' = b + W mu - W' mu[S]

The ridge R pulls towards the old weights and not towards zero, so with nothing cut the layer stays as
it is, to the bit. (CORP-like; on the project's base it ranks plans as well as a finished fine-tune.)
"""

from __future__ import annotations

import torch
from torch import nn

from vitsearch.backbones import Backbone
from vitsearch.compress.scores import Moments, Statistics
from vitsearch.effect import Effect

RIDGE = 1e-2
"""Times the mean variance of the inputs; flat between 1e-3 and 1e-1."""


def refit(pruned: nn.Module, base: nn.Module, backbone: Backbone, effect: Effect, statistics: Statistics) -> None:
    """Rewrite ``proj`` and ``fc2`` of every block that was cut, in place; ``base`` gives the old weights."""
    blocks = zip(backbone.units(pruned), backbone.units(base), effect.blocks, strict=True)
    for index, (now, before, block) in enumerate(blocks):
        columns = [head * before.head_dim + offset for head in block.heads for offset in range(before.head_dim)]
        refit_layer(now.proj, before.proj, columns, statistics.proj[index])
        refit_layer(now.fc2, before.fc2, list(block.ffn), statistics.fc2[index])


def refit_layer(now: nn.Linear, before: nn.Linear, kept: list[int], moments: Moments) -> None:
    """``now`` (out, len(kept)) becomes the best stand-in for ``before`` (out, d) on inputs with these moments."""
    if len(kept) == before.in_features:
        return
    weight, mean, covariance = (t.detach().double() for t in (before.weight, moments.mean, moments.covariance))
    ridge = RIDGE * covariance.diagonal().mean()
    stays = torch.tensor(kept)
    inner = covariance[stays][:, stays] + ridge * torch.eye(len(kept), dtype=torch.float64)
    target = weight @ covariance[:, stays] + ridge * weight[:, stays]
    fitted = torch.linalg.solve(inner, target, left=False)
    with torch.no_grad():
        now.weight.copy_(fitted)
        if before.bias is not None:
            now.bias.copy_(before.bias.double() + weight @ mean - fitted @ mean[stays])
