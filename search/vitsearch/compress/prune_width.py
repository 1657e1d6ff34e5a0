"""Refit of the layers that read a narrower residual stream, to their output on all channels.

A reader is `W norm(x) + b` on the stream x. Let z = norm(x) in the base, and z' the output of the norm on the kept
channels S in the cut model: it has another mean and variance, and the errors of the layers in front. The missing part
of z is predicted linearly from z', and the prediction is folded into the weights:

    D, d   the least squares of z - scatter_S(z') on z', with a pull to zero
    W'     = W_S + W D,   b' = b + W d

W are the rows that the reader keeps, on all channels. Each reader is fitted when it runs, in the pass of
`vitsearch.compress.sequential`, which fits the layers that write to the stream, and the classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from vitsearch.compress import least_squares, matrices
from vitsearch.compress.matrices import Matrix
from vitsearch.compress.one_thread import one_thread
from vitsearch.compress.sequential import RIDGE, Reduction
from vitsearch.models.backbone import Backbone, Reader


@dataclass(frozen=True, eq=False)
class Reading:
    """One reader on all channels: the `norm` of the base, the `stream` (images, tokens, channels) that the norm
    read, `weight` and `bias` of the rows that are kept."""

    norm: nn.Module
    stream: torch.Tensor
    weight: Matrix
    bias: torch.Tensor | None


def readings(base: nn.Module, wide: nn.Module, backbone: Backbone, images: torch.Tensor) -> dict[str, Reading]:
    """The readings of all readers of `base` that `wide` still has, by the name of the reader.

    `wide` is the cut model before it lost channels; `images` (n, channels, height, width), normalised. The streams
    are float32 and take as much memory as the inputs of all blocks for all images.
    """
    layers = {reader.name: reader.layer for reader in backbone.stream_readers(wide)}
    seen: dict[str, Reading] = {}

    def keep(reader: Reader, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        layer = layers[reader.name]
        bias = None if layer.bias is None else layer.bias.detach().clone()
        seen[reader.name] = Reading(reader.norm, inputs[0], matrices.weight(layer), bias)

    left = [reader for reader in backbone.stream_readers(base) if reader.name in layers]
    hooks = [reader.norm.register_forward_pre_hook(partial(keep, reader)) for reader in left]
    try:
        with torch.no_grad():
            base.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@contextmanager
def fitting(
    pruned: nn.Module,
    backbone: Backbone,
    embed: Sequence[int],
    read: Mapping[str, Reading],
    reductions: Sequence[Reduction],
) -> Iterator[None]:
    """Fit the readers of `pruned` that are named in `read` whenever they run inside this context.

    `pruned` has the channels `embed` left. Each fit starts from the weights in `read`, not from an earlier fit.
    """
    hooks = [
        reader.layer.register_forward_hook(_fitted(reader, read[reader.name], list(embed), reductions))
        for reader in backbone.stream_readers(pruned)
        if reader.name in read
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _fitted(
    reader: Reader, reading: Reading, embed: list[int], reductions: Sequence[Reduction]
) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor]:
    def hook(_: nn.Module, inputs: tuple[Any, ...], __: torch.Tensor) -> torch.Tensor:
        stream = reading.stream
        for reduce in reductions:
            stream = reduce(stream)
        missing = reading.norm(stream).clone()
        missing[..., embed] -= inputs[0]
        rows = [least_squares.drawn(values.flatten(0, 1)) for values in (inputs[0], missing)]
        change, constant = least_squares.fit(rows[0], rows[1], RIDGE, centred=reading.bias is not None)
        with one_thread():
            weight, moved = reading.weight[:, embed] + reading.weight @ change, reading.weight @ constant
        matrices.set_weight(reader.layer, weight)
        if reading.bias is not None:
            reader.layer.bias.copy_(reading.bias)
            matrices.add_constant(reader.layer, None, moved)
        output: torch.Tensor = reader.layer.forward(inputs[0])
        return output

    return hook
