"""Linear layers and 1x1 convolutions as matrices: their inputs as rows, their weights, their constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

Matrix = NDArray[np.float64]


def rows(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """`inputs` of `layer` as (images, positions, columns).

    Positions are the tokens of a linear layer or the pixels of a convolution, and one where a linear layer reads a
    vector.
    """
    if isinstance(layer, nn.Conv2d):
        return inputs.flatten(2).transpose(1, 2)
    return inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])


def weight(layer: Layer) -> Matrix:
    """Weights (outputs, inputs) in float64; a convolution must have kernel size 1 and one group."""
    values = layer.weight.detach().cpu().double().numpy()
    return np.asarray(values.reshape(values.shape[:2]))


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
