"""Importance of each head, neuron, block and stream channel of the unpruned base, and the statistics for the refit.

One forward and one backward pass over the calibration images, a few at a time. Gradients are taken with respect to
activations only; no weight gets one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from vitsearch.compress import matrices
from vitsearch.compress.one_thread import one_thread
from vitsearch.compress.sequential import classifiers
from vitsearch.compress.statistics import Array, BlockStatistics, Statistics, UnitStatistics
from vitsearch.errors import StageError
from vitsearch.models.backbone import Backbone
from vitsearch.models.surgery import frozen, unfused_attention
from vitsearch.tasks import CLASSIFICATION, Task, TrainingTargets

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

__all__ = ["Statistics", "collect"]

BATCH_SIZE = 16
ROUNDING = 1e-5
"""Relative precision of the variances: float32 products resolve no less than this share of the mean square of the
inputs. It is added to each variance, so that the refit leaves the weights of a layer as they are where its inputs
hardly vary, as in an untrained model."""


def collect(
    model: nn.Module,
    backbone: Backbone,
    images: torch.Tensor,
    labels: torch.Tensor,
    task: Task = CLASSIFICATION,
    batch_size: int = BATCH_SIZE,
) -> Statistics:
    """Statistics of `model` on `images` (n, channels, height, width), normalised, `labels` (n,). What the outputs are
    for decides the importance (`Task.importance`).

    Memory grows with `batch_size` (16 images of a DeiT-base at 224 pixels: about 3 GB), not with n. The model is left
    unchanged, in evaluation mode. `StageError` when a loss is not finite.
    """
    model.eval()
    units = backbone.units(model)
    watched = [(_watch(unit.proj, unit.heads, unit.head_runs), _watch(unit.fc2, unit.ffn_width, 1)) for unit in units]
    every = [watch for pair in watched for watch in pair if watch is not None]
    blocks = [_Added(model.get_submodule(unit.name)) if unit.is_scored_whole else None for unit in units]
    readers = [_Reading(layer) for layer in _readers(model, backbone)]
    depth = [0.0] * len(watched)
    with frozen(model), unfused_attention(model), _hooked([*every, *readers]), _hooked_blocks(blocks):
        for start in range(0, len(images), batch_size):
            chosen = slice(start, start + batch_size)
            added = [block for block in blocks if block is not None]
            targets = TrainingTargets(labels[chosen])
            _one_batch(model, task, images[chosen], targets, [*every, *readers, *added])
            for index, (block, pair) in enumerate(zip(blocks, watched, strict=True)):
                terms = [watch.last for watch in pair if watch is not None] if block is None else [block.last]
                depth[index] += _block_score(terms, len(images[chosen]))
    return Statistics(
        tuple(BlockStatistics(*(watch.result() if watch else None for watch in pair)) for pair in watched),
        len(images),
        tuple(depth),
        tuple(torch.stack([reader.taylor for reader in readers]).sum(0).tolist()) if readers else (),
    )


def _block_score(terms: Sequence[torch.Tensor], images: int) -> float:
    """Taylor score of a block as a whole: the terms of its consumers are summed for each image, then made absolute.

    Windowed attention has one term for each window, with the windows of an image next to each other.
    """
    whole = sum((term.reshape(images, -1).sum(1) for term in terms), torch.zeros(()))
    return float(whole.abs().sum())


def _readers(model: nn.Module, backbone: Backbone) -> list[Layer]:
    """The layers that read the residual stream, classifiers included; none if the family does not cut it."""
    readers = [reader.layer for reader in backbone.stream_readers(model)]
    return [*readers, *classifiers(model)] if readers else []


def _one_batch(
    model: nn.Module,
    task: Task,
    images: torch.Tensor,
    targets: TrainingTargets,
    every: list[_Watch | _Reading | _Added],
) -> None:
    inputs = images.detach().clone().requires_grad_()
    loss = task.importance(model(inputs), targets)
    if not torch.isfinite(loss):
        wrong = f"the loss of the base on calibration images is {float(loss.detach())}"
        raise StageError("block_structure", "not_finite", wrong)
    if not every:  # nothing of the model can be cut
        return
    gradients = torch.autograd.grad(loss, [watch.seen for watch in every])
    with one_thread():  # some processors add up the products of long columns in an order that depends on the threads
        for watch, gradient in zip(every, gradients, strict=True):
            watch.add(gradient)


class _Reading:
    """Sums of Taylor terms over the inputs of one reader of the stream."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.taylor = torch.zeros(layer.weight.shape[1], dtype=torch.float64)
        self.seen = torch.empty(0)

    def record(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.seen = inputs[0]

    def add(self, gradient: torch.Tensor) -> None:
        values, slopes = (matrices.rows(self.layer, t.detach()) for t in (self.seen, gradient))
        self.seen = torch.empty(0)
        self.taylor += (values * slopes).sum(1).abs().sum(0).double().cpu()


class _Watch:
    """Sums of Taylor terms, first and second moments over the inputs of one consumer.

    The columns of a consumer are laid out `[runs, units, columns of a unit in one run]`. Of a layer that is not fitted
    only the second moments of each input channel are kept.
    """

    def __init__(self, layer: Layer, units: int, runs: int) -> None:
        self.layer = layer
        self._runs = runs
        self._taylor = torch.zeros(units, dtype=torch.float64)
        self._is_fitted = matrices.can_be_fitted(layer)
        columns = layer.weight[0].numel() if self._is_fitted else layer.weight.shape[1]
        self._sum = torch.zeros(columns, dtype=torch.float64)
        self._products = torch.zeros((columns, columns) if self._is_fitted else columns, dtype=torch.float64)
        self._rows = 0
        self.seen = torch.empty(0)
        self.last = torch.empty(0)
        """Taylor term of all columns together, for each image or window of the last batch."""

    def record(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.seen = inputs[0]

    def add(self, gradient: torch.Tensor) -> None:
        inputs = self.seen.detach()
        values, slopes = (matrices.rows(self.layer, t) for t in (inputs, gradient.detach()))
        self.seen = torch.empty(0)
        terms = (values * slopes).sum(1)
        by_unit = terms.reshape(len(terms), self._runs, len(self._taylor), -1).sum((1, 3))
        self.last = by_unit.sum(1).double()
        self._taylor += by_unit.abs().sum(0).double().cpu()
        flat = (matrices.read_rows(self.layer, inputs) if self._is_fitted else values).flatten(0, 1)
        self._sum += flat.sum(0).double().cpu()
        self._products += (flat.T @ flat if self._is_fitted else flat.square().sum(0)).double().cpu()
        self._rows += len(flat)

    def result(self) -> UnitStatistics:
        mean = self._sum / self._rows
        if not self._is_fitted:
            return UnitStatistics(_float32(self._taylor), self._variance_alone(mean), _EMPTY[0], _EMPTY)
        covariance = self._products / self._rows - torch.outer(mean, mean)
        variance = self._variance(covariance)
        covariance += ROUNDING * mean.square().mean() * torch.eye(len(mean), dtype=mean.dtype)
        return UnitStatistics(_float32(self._taylor), variance, _float32(mean), _float32(covariance))

    def _variance(self, covariance: torch.Tensor) -> Array:
        """`tr(W_u C_uu W_u^T)` for the columns u of each unit."""
        units = len(self._taylor)
        order = torch.arange(len(covariance)).reshape(self._runs, units, -1).transpose(0, 1).reshape(units, -1)
        columns = torch.from_numpy(matrices.weight(self.layer))[:, order].transpose(0, 1)
        own = covariance[order[:, :, None], order[:, None, :]]
        return _float32((columns @ own * columns).sum((1, 2)))

    def _variance_alone(self, mean: torch.Tensor) -> Array:
        """The same as if the columns of a unit did not vary together."""
        power = self.layer.weight.detach().cpu().double().square().flatten(2).sum((0, 2))
        each = (self._products / self._rows - mean.square()) * power
        return _float32(each.reshape(self._runs, len(self._taylor), -1).sum((0, 2)))


_EMPTY = np.zeros((1, 0), np.float32)


class _Added:
    """Taylor terms of what a residual block adds to its input."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.seen = torch.empty(0)
        self.last = torch.empty(0)
        self._change = torch.empty(0)

    def record(self, _: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        self._change = (output - inputs[0]).detach()
        self.seen = output
        return output

    def add(self, gradient: torch.Tensor) -> None:
        self.last = (self._change * gradient.detach()).flatten(1).sum(1).double()
        self.seen = self._change = torch.empty(0)


def _watch(layer: Layer | None, units: int, runs: int) -> _Watch | None:
    return None if layer is None else _Watch(layer, units, runs)


def _float32(values: torch.Tensor) -> Array:
    return np.asarray(values.float().numpy())


@contextmanager
def _hooked_blocks(blocks: Sequence[_Added | None]) -> Iterator[None]:
    handles = [block.block.register_forward_hook(block.record) for block in blocks if block is not None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _hooked(every: Sequence[_Watch | _Reading]) -> Iterator[None]:
    handles = [watch.layer.register_forward_pre_hook(watch.record) for watch in every]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
