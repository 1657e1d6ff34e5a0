"""How what a layer gives reaches the residual stream behind it: which position, which scale.

Read off the model itself with one image: between the layer and the addition lie only norms in
evaluation mode, layer scales, window partitions and the like, which scale channels and move positions.
The derivative of the stream with respect to the layer's output then says both.
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
"""Of a position that is read off: float32 holds it exactly up to some 4 million values an image."""


@dataclass(frozen=True, eq=False)
class Stream:
    """``scale`` (outputs,) of the layer's channels on their way. ``order``: for each value of the layer's
    output for one image, flat, its place in the stream, flat; ``None`` when they are laid out alike."""

    scale: torch.Tensor
    order: torch.Tensor | None

    def narrowed(self, channels: Sequence[int]) -> Stream:
        """On fewer channels; only of a stream that is laid out as the layer's output is."""
        assert self.order is None
        return Stream(self.scale[list(channels)], None)

    def pulled(self, layer: Layer, stream: torch.Tensor, like: torch.Size) -> torch.Tensor:
        """``stream`` in the scale of the output of ``layer``, of shape ``like``, as (images, positions, outputs)."""
        moved = stream if self.order is None else stream.flatten(1)[:, self.order]
        return matrices.rows(layer, moved.reshape(like)) / self.scale


def streams(
    model: nn.Module, layers: Sequence[tuple[Layer, Branch] | None], image: torch.Tensor
) -> list[Stream | None]:
    """Of each layer, seen with ``image`` (1, channels, height, width); ``None`` where a layer's output
    does not reach its stream in that simple way."""
    outputs: dict[int, torch.Tensor] = {}
    ends: dict[int, torch.Tensor] = {}
    hooks = []
    for place, found in enumerate(layers):
        if found is not None:
            layer, branch = found
            hooks.append(layer.register_forward_hook(_cut_off(outputs, place)))
            join = branch.joins.register_forward_pre_hook if branch.at_input else branch.joins.register_forward_hook
            hooks.append(join(_last_argument(ends, place, branch.at_input)))
    try:
        with torch.enable_grad():
            model.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        None if found is None or place not in ends else _stream(found[0], outputs[place], ends[place])
        for place, found in enumerate(layers)
    ]


def _cut_off(outputs: dict[int, torch.Tensor], place: int) -> Callable[..., torch.Tensor]:
    """What follows depends on this layer's output alone, not on what is in front of it."""

    def hook(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs[place] = output.detach().requires_grad_()
        return outputs[place].clone()  # an activation may work in place

    return hook


def _last_argument(ends: dict[int, torch.Tensor], place: int, at_input: bool) -> Callable[..., None]:
    def hook(*seen: Any) -> None:
        ends[place] = seen[1][0] if at_input else seen[2]

    return hook


def _stream(layer: Layer, output: torch.Tensor, end: torch.Tensor) -> Stream | None:
    places = torch.arange(1, end.numel() + 1, device=end.device, dtype=end.dtype).reshape(end.shape)
    scales, coded = (_derivative(end, output, weights) for weights in (torch.ones_like(end), places))
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
