"""Linear layers and convolutions as matrices: their inputs as rows, their weights, their constant.

A convolution of a larger kernel is a linear layer on the pixels under its kernel: a column for each input channel and
pixel, the pixels of a channel next to each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vitsearch.models.backbone import Layer

Matrix = NDArray[np.float64]
MAX_UNFOLDED = 1152
"""Columns of a convolution up to which it is fitted, 3x3 on 128 channels: the moments of wider ones take more time and
memory than all other layers together."""


def rows(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """`inputs` of `layer` as (images, positions, columns).

    Positions are the tokens of a linear layer or the pixels of a convolution, and one where a linear layer reads a
    vector.
    """
    if isinstance(layer, nn.Conv2d):
        return inputs.flatten(2).transpose(1, 2)
    return inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])


def can_be_fitted(layer: nn.Module) -> bool:
    """Whether a closed-form fit of `layer` is worth its price: its forward is torch's own, and its matrix is small."""
    if type(layer).forward is nn.Linear.forward:
        return True
    if type(layer).forward is not nn.Conv2d.forward or not isinstance(layer, nn.Conv2d):
        return False  # weights that are standardised, or inputs that are padded, in forward
    is_plain = layer.groups == 1 and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
    return is_plain and (layer.kernel_size == (1, 1) or pixels(layer) * layer.in_channels <= MAX_UNFOLDED)


def pixels(layer: nn.Module) -> int:
    """Number of pixels under the kernel of `layer`; 1 for a linear layer."""
    return layer.kernel_size[0] * layer.kernel_size[1] if isinstance(layer, nn.Conv2d) else 1


def columns_of(layer: nn.Module, channels: Sequence[int]) -> list[int]:
    """The columns of the matrix of `layer` that read these input channels."""
    size = pixels(layer)
    return [channel * size + pixel for channel in channels for pixel in range(size)]


def unfolded(layer: nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
    """What `layer` reads at each position, as (images, positions, channels, pixels)."""
    padding: Any = layer.padding
    read = functional.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
    images, _, positions = read.shape
    return read.reshape(images, layer.in_channels, -1, positions).permute(0, 3, 1, 2)


def read_rows(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """What the matrix of `layer` multiplies, as (images, positions, columns)."""
    if not isinstance(layer, nn.Conv2d) or (pixels(layer) == 1 == max(layer.stride) and not any(layer.padding)):
        return rows(layer, inputs)
    return unfolded(layer, inputs).flatten(2)


def weight(layer: Layer) -> Matrix:
    """Weights (outputs, columns) in float64; a convolution must have one group."""
    values = layer.weight.detach().cpu().double().numpy()
    return np.asarray(values.reshape(len(values), -1))


def set_weight(layer: Layer, values: Matrix) -> None:
    """Write `values` (outputs, inputs) into `layer`, which must have this shape."""
    new = torch.from_numpy(values).to(layer.weight.dtype).reshape(layer.weight.shape)
    with torch.no_grad():
        layer.weight.copy_(new)


def has_constant(layer: Layer, norm: nn.Module | None) -> bool:
    """Whether `add_constant` has an effect: there is a bias, or a batch norm behind the layer."""
    return layer.bias is not None or isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)


def add_constant(layer: Layer, norm: nn.Module | None, constant: Matrix) -> None:
    """Add `constant` (outputs,) to the output of `layer`.

    It goes into the bias, or else off the mean that the batch norm behind the layer subtracts.
    """
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias += torch.from_numpy(constant).to(layer.bias)
        elif isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean -= torch.from_numpy(constant).to(norm.running_mean)
