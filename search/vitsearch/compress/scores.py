"""What a base model tells about its units before anything is cut: importance, and second moments for the refit.

Importance is first-order Taylor (Molchanov et al. 2019): for each unit, the sum over images of
``|sum over tokens and dimensions of activation * gradient of the loss|``. The statistics are mean and
covariance of the inputs of ``proj`` (heads side by side) and ``fc2`` (FFN activations), over all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from vitsearch.backbones import Backbone
from vitsearch.effect import Scores

BATCH = 32


@dataclass(frozen=True)
class Moments:
    """``mean`` (d,) and ``covariance`` (d, d) of one layer's input, float32."""

    mean: torch.Tensor
    covariance: torch.Tensor


@dataclass(frozen=True)
class Statistics:
    """Per block: importance of heads and neurons, moments of the inputs of ``proj`` and ``fc2``."""

    heads: tuple[torch.Tensor, ...]
    ffn: tuple[torch.Tensor, ...]
    proj: tuple[Moments, ...]
    fc2: tuple[Moments, ...]

    def scores(self) -> Scores:
        return Scores(tuple(tuple(row.tolist()) for row in self.heads), tuple(tuple(row.tolist()) for row in self.ffn))

    def save(self, path: Path) -> None:
        tensors = {}
        for block in range(len(self.heads)):
            tensors |= {f"{block}.heads": self.heads[block], f"{block}.ffn": self.ffn[block]}
            for name, moments in (("proj", self.proj[block]), ("fc2", self.fc2[block])):
                tensors |= {f"{block}.{name}.mean": moments.mean, f"{block}.{name}.covariance": moments.covariance}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        tensors = load_file(path)
        blocks = range(1 + max(int(name.partition(".")[0]) for name in tensors))

        def moments(block: int, layer: str) -> Moments:
            return Moments(tensors[f"{block}.{layer}.mean"], tensors[f"{block}.{layer}.covariance"])

        return cls(
            tuple(tensors[f"{block}.heads"] for block in blocks),
            tuple(tensors[f"{block}.ffn"] for block in blocks),
            tuple(moments(block, "proj") for block in blocks),
            tuple(moments(block, "fc2") for block in blocks),
        )


class _Tally:
    """Running sums over batches for the input of one layer."""

    def __init__(self, layer: nn.Linear, units: int) -> None:
        width = layer.in_features
        self.units = units
        self.importance = torch.zeros(units)
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)
        self.seen: torch.Tensor | None = None

    def see(self, inputs: torch.Tensor) -> None:
        """``inputs`` (images, tokens, width), part of the graph; its gradient is asked for."""
        inputs.retain_grad()
        self.seen = inputs
        flat = inputs.detach().flatten(0, -2)
        self.count += len(flat)
        self.total += flat.double().sum(0)
        self.products += (flat.T @ flat).double()

    def after_backward(self) -> None:
        assert self.seen is not None and self.seen.grad is not None  # noqa: S101 - the hook ran in this pass
        product = (self.seen.detach() * self.seen.grad).sum(dim=tuple(range(1, self.seen.ndim - 1)))
        self.importance += product.unflatten(-1, (self.units, -1)).sum(-1).abs().sum(0)
        self.seen = None

    def moments(self) -> Moments:
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        return Moments(mean.float(), covariance.float())


def collect(model: nn.Module, backbone: Backbone, images: torch.Tensor, labels: torch.Tensor) -> Statistics:
    """One forward and backward pass over ``images`` (N, C, H, W) with ``labels`` (N,), in batches."""
    units = backbone.units(model)
    heads = [_Tally(unit.proj, unit.heads) for unit in units]
    ffn = [_Tally(unit.fc2, unit.fc2.in_features) for unit in units]
    layers = [unit.proj for unit in units] + [unit.fc2 for unit in units]
    with _watching(layers, [*heads, *ffn]), torch.enable_grad():
        for start in range(0, len(images), BATCH):
            batch, targets = images[start : start + BATCH], labels[start : start + BATCH]
            loss = functional.cross_entropy(model(batch), targets, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            for tally in (*heads, *ffn):
                tally.after_backward()
            model.zero_grad(set_to_none=True)
    return Statistics(
        tuple(tally.importance for tally in heads),
        tuple(tally.importance for tally in ffn),
        tuple(tally.moments() for tally in heads),
        tuple(tally.moments() for tally in ffn),
    )


@contextmanager
def _watching(layers: list[nn.Linear], tallies: list[_Tally]) -> Iterator[None]:
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, tally=tally: tally.see(inputs[0]))
        for layer, tally in zip(layers, tallies, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
