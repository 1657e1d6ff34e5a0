"""In-place operations on layers: keep some rows or columns, run attention unfused, redraw zero norms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
SMALL_SCALE = 0.1


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer reads each position alone: a linear layer, or a convolution of kernel size 1."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))


def keep_rows(layer: Layer, kept: Sequence[int]) -> None:
    """Drop the outputs of `layer` that are not in `kept`, with their bias."""
    index = torch.tensor(kept)
    layer.weight = _cut(layer.weight, 0, index)
    if layer.bias is not None:
        layer.bias = _cut(layer.bias, 0, index)
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(kept))


def keep_columns(layer: Layer, kept: Sequence[int]) -> None:
    """Drop the inputs of `layer` that are not in `kept`."""
    layer.weight = _cut(layer.weight, 1, torch.tensor(kept))
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", len(kept))


def head_columns(heads: Sequence[int], head_dim: int) -> list[int]:
    """Columns of `proj` that belong to `heads`: `head_dim` for each, in the order of `heads`."""
    return [head * head_dim + column for head in heads for column in range(head_dim)]


def keep_of_table(table: nn.Parameter, dim: int, kept: Sequence[int]) -> nn.Parameter:
    """The entries `kept` of `table` along `dim`, as a new parameter."""
    return _cut(table, dim, torch.tensor(kept))


def keep_norm_channels(norm: nn.BatchNorm1d | nn.BatchNorm2d, kept: Sequence[int]) -> None:
    """Drop the channels of a batch norm, running statistics too, that are not in `kept`."""
    index = torch.tensor(kept)
    if norm.affine:
        norm.weight, norm.bias = _cut(norm.weight, 0, index), _cut(norm.bias, 0, index)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean = norm.running_mean[index.to(norm.running_mean.device)].clone()
        norm.running_var = norm.running_var[index.to(norm.running_var.device)].clone()
    norm.num_features = len(kept)


def keep_layer_norm_channels(norm: nn.LayerNorm, kept: Sequence[int]) -> None:
    """Drop the channels of a layer norm that are not in `kept`; its mean and variance then cover the rest."""
    index = torch.tensor(kept)
    if norm.elementwise_affine:
        norm.weight = _cut(norm.weight, 0, index)
        norm.bias = None if norm.bias is None else _cut(norm.bias, 0, index)
    norm.normalized_shape = (len(kept),)


def keep_entries(module: nn.Module, size: int, kept: Sequence[int]) -> None:
    """Keep the entries `kept` along the first axis of length `size` of each tensor that `module` itself holds.

    Whole numbers are indices of positions, of which there may be as many: those of a window of 2 x 3 beside 6 heads.
    """
    index = torch.tensor(kept)
    for name, values in module.named_parameters(recurse=False):
        if size in values.shape:
            setattr(module, name, _cut(values, values.shape.index(size), index))
    for name, buffer in module.named_buffers(recurse=False):
        if size in buffer.shape and buffer.is_floating_point():
            setattr(module, name, buffer.index_select(buffer.shape.index(size), index.to(buffer.device)).clone())


def replace_noted_size(module: nn.Module, size: int, new: int) -> None:
    """Set the attributes of `module` that are `size`, or the shape `(size,)`, to `new`."""
    for name, value in list(vars(module).items()):
        if name.startswith("_"):
            continue
        if type(value) is int and value == size:
            setattr(module, name, new)
        elif value == (size,):
            setattr(module, name, (new,))


class PassThrough(nn.Identity):
    """In the place of a dropped block: gives its first argument, whatever else the block was given."""

    def forward(self, x: torch.Tensor, *_: object, **__: object) -> torch.Tensor:  # type: ignore[override]
        return x


def _cut(values: torch.Tensor, dim: int, index: torch.Tensor) -> nn.Parameter:
    kept = values.detach().index_select(dim, index.to(values.device)).clone()
    return nn.Parameter(kept, requires_grad=values.requires_grad)


@contextmanager
def unfused_attention(model: nn.Module) -> Iterator[None]:
    """Compute attention as plain matrix products: counters see them, exporters have operators for them, and the
    backward pass is faster on a CPU. So for timm's modules, and for torch's, whose inference is one fused operator."""
    fused = [module for module in model.modules() if getattr(module, "fused_attn", False) is True]
    for module in fused:
        setattr(module, "fused_attn", False)  # noqa: B010 - not an attribute of nn.Module
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
        for module in fused:
            setattr(module, "fused_attn", True)  # noqa: B010


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside this context."""
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)


def redraw_zero_norms(model: nn.Module, seed: int = 0) -> int:
    """Draw U(0.5, 1) for every norm weight that is all zero; returns the number of such norms.

    timm starts the last norm of some residual branches at zero. Such a branch is exactly zero, so that a converter may
    delete it, and an untrained model would be measured without it.
    """
    norms = [module for module in model.modules() if isinstance(module, NORMS) and module.weight is not None]
    dead = [norm for norm in norms if not norm.weight.any()]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in dead:
            norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) * 0.5 + 0.5)
    return len(dead)


def raise_layer_scales(model: nn.Module) -> None:
    """Set small layer scales to 0.5, in place; also norms that start as such. Fresh ones are about 1e-5 and would hide
    the branches behind them."""
    norms = {id(norm.weight) for norm in model.modules() if isinstance(norm, NORMS) and norm.weight is not None}
    with torch.no_grad():
        for name, values in model.named_parameters():
            is_scale = name.rpartition(".")[2].startswith("gamma") or id(values) in norms
            if is_scale and float(values.abs().max()) < SMALL_SCALE:
                values.fill_(0.5)
