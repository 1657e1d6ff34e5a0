"""How the output of a layer reaches the residual stream behind it: at which position, with which scale.

Between the layer and the addition there are only norms in evaluation mode, layer scales, window partitions and the
like, which scale channels and move positions. The derivative of the stream with respect to the output of the layer
therefore gives both; it is read from one forward pass of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitsearch.compress import matrices

if TYPE_CHECKING:
    from vitsearch.models.backbone import Branch, Layer

MAX_ERROR = 0.25
"""Allowed error of a position read from a derivative: float32 is exact up to about 4 million values an image."""


@dataclass(frozen=True, eq=False)
class Stream:
    """`scale` (outputs,) multiplies the channels of the layer on their way to the stream. `order` gives, for each
    value of the flat output for one image, its index in the flat stream; `None` when both have the same layout."""

    scale: torch.Tensor
    order: torch.Tensor | None

    def restricted(self, channels: Sequence[int]) -> Stream:
        """The same for `channels` only; the stream must have the layout of the output."""
        assert self.order is None
        return Stream(self.scale[list(channels)], None)

    def gathered(self, layer: Layer, stream: torch.Tensor, like: torch.Size) -> torch.Tensor:
        """`stream` in the scale and layout of the output of `layer`, which has shape `like`.

        Returned as (images, positions, outputs).
        """
        moved = stream if self.order is None else stream.flatten(1)[:, self.order]
        return matrices.rows(layer, moved.reshape(like)) / self.scale


def streams(
    model: nn.Module, layers: Sequence[tuple[Layer, Branch] | None], image: torch.Tensor
) -> list[Stream | None]:
    """The stream of each layer, found with `image` (1, channels, height, width).

    `None` where the output of a layer is mixed on its way, instead of only scaled and moved.
    """
    outputs: dict[int, torch.Tensor] = {}
    ends: dict[int, torch.Tensor] = {}
    hooks = []
    for index, pair in enumerate(layers):
        if pair is not None:
            layer, branch = pair
            hooks.append(layer.register_forward_hook(_detach_output(outputs, index)))
            join = branch.joins.register_forward_pre_hook if branch.at_input else branch.joins.register_forward_hook
            hooks.append(join(_record_end(ends, index, branch.at_input)))
    try:
        with torch.enable_grad():
            model.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        None if pair is None or index not in ends else _stream(pair[0], outputs[index], ends[index])
        for index, pair in enumerate(layers)
    ]


def _detach_output(outputs: dict[int, torch.Tensor], index: int) -> Callable[..., torch.Tensor]:
    """A hook that makes the output of a layer a new leaf, so that gradients stop there."""

    def hook(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs[index] = output.detach().requires_grad_()
        return outputs[index].clone()  # an activation may work in place

    return hook


def _record_end(ends: dict[int, torch.Tensor], index: int, at_input: bool) -> Callable[..., None]:
    """A hook that keeps the input or the output of a module."""

    def hook(*seen: Any) -> None:
        ends[index] = (seen[1][0] if at_input else seen[2]).clone()  # an activation may work in place

    return hook


def _stream(layer: Layer, output: torch.Tensor, end: torch.Tensor) -> Stream | None:
    positions = torch.arange(1, end.numel() + 1, device=end.device, dtype=end.dtype).reshape(end.shape)
    scales, coded = (_derivative(end, output, weights) for weights in (torch.ones_like(end), positions))
    if scales is None or coded is None or not bool(scales.all()) or end.numel() != output.numel():
        return None
    by_channel = matrices.rows(layer, scales).flatten(0, 1)
    read = (coded / scales).flatten() - 1
    order = read.round().long()
    every = torch.arange(len(order), device=order.device)
    simple = torch.allclose(by_channel, by_channel[:1].expand_as(by_channel), rtol=1e-4)
    if not simple or float((read - order).abs().max()) > MAX_ERROR or not torch.equal(order.sort().values, every):
        return None
    alike = torch.equal(order, every)
    return Stream(by_channel[0].clone(), None if alike else order)


def _derivative(end: torch.Tensor, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | None:
    if not end.requires_grad:
        return None
    return torch.autograd.grad(end, output, weights, retain_graph=True, allow_unused=True)[0]
