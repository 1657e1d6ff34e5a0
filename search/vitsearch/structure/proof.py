"""The proof of a cut: on numbers, the cut module computes what the masked one does, and the mask matters."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vitsearch.structure.trace import Arguments, copied

TOLERANCE = 1e-5
"""Of the largest value, where two ways to compute it are equal in exact arithmetic."""
WHOLE_TOLERANCE = 1e-4
"""The same at the end of a deep model, whose layers add their errors up. A wrong cut differs by 0.1 and more."""
SENSITIVITY = 50
"""The mask must change the output by so many times the difference between mask and cut, or the proof says nothing."""
LONGEST = 120
"""Characters of an error that a reason quotes."""
SMALL = 1e-3
SPREAD = 0.05
"""Share of its size by which the input of a batch norm varies at least, or the norm would amplify rounding errors."""
SEED = 0


@torch.no_grad()
def draw_vectors(model: nn.Module) -> None:
    """Draw norms, biases, layer scales and running statistics anew, in place, as no training starts them.

    A fresh norm is 1, a fresh bias 0 and a fresh layer scale almost 0: a wrong cut of any of them would not be seen.
    Weights of layers are multiplied where they are so small that a deep model would give the same for all positions.
    """
    generator = torch.Generator().manual_seed(SEED)

    def uniform(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(values.shape, generator=generator) * (high - low) + low

    for module in model.modules():
        for name, values in module.named_parameters(recurse=False):
            is_vector = values.ndim <= 1 or values.numel() == max(values.shape)
            if not values.is_floating_point() or not (is_vector or float(values.abs().max()) < SMALL):
                continue
            if name == "bias" or not bool(values.any()):
                values.add_((uniform(values, -1, 1) * 0.1).to(values))
            if values.numel() > 1 and (name == "weight" or "gamma" in name or "scale" in name):
                values.copy_(uniform(values, 0.5, 1.0))
        if isinstance(module, nn.Linear | nn.Conv2d):
            deviation, wanted = float(module.weight.std(correction=0)), module.weight[0].numel() ** -0.5
            if 0 < deviation < wanted:
                module.weight.mul_(wanted / deviation)
        for name, buffer in frozen_vectors(module).items():
            low, high = (-0.1, 0.1) if "mean" in name or "bias" in name else (0.5, 1.0)
            buffer.copy_(uniform(buffer, low, high))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.copy_(uniform(module.running_mean, -0.1, 0.1))
            module.running_var.copy_(uniform(module.running_var, 0.75, 1.25))


def frozen_vectors(module: nn.Module) -> dict[str, torch.Tensor]:
    """The numbers for each channel of a norm that cannot be trained: it has buffers in the place of parameters."""
    if any(True for _ in module.parameters(recurse=False)) or isinstance(module, nn.modules.batchnorm._BatchNorm):
        return {}
    buffers = dict(module.named_buffers(recurse=False))
    is_norm = {"weight", "bias", "running_mean", "running_var"} <= buffers.keys()
    return buffers if is_norm else {}


@torch.no_grad()
def settle_batch_norms(model: nn.Module, images: torch.Tensor) -> None:
    """Set the statistics of batch norms to about those of their inputs, in place and in one forward.

    With those of a fresh norm the signal of a deep model fades, until all positions are the same.

    Args:
        model: After `draw_vectors`, in evaluation mode.
        images: What it is traced with.
    """
    settled = set()

    def settle(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if norm in settled or norm.running_mean is None:
            return
        settled.add(norm)
        variance, mean = torch.var_mean(inputs[0].transpose(0, 1).flatten(1), dim=1, correction=0)
        variance = variance.maximum(SPREAD**2 * (mean.square() + variance))
        variance = torch.where(variance > 0, variance, 1.0)
        norm.running_mean.mul_(variance.sqrt()).add_(mean)  # type: ignore[operator]  # drawn are shares of the deviation
        norm.running_var.mul_(variance)  # type: ignore[operator]

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def run(module: nn.Module, arguments: Arguments) -> torch.Tensor:
    """All numbers that `module` returns for `arguments`, which it may change."""
    positional, named = arguments
    return numbers(module(*copied(positional), **copied(named)))


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Cut a module inside this context, and it is whole again behind it. A cut replaces tensors, it changes none."""
    of_parts = [vars(part) for part in module.modules()]
    boxes = [box for attributes in of_parts for box in (attributes, *attributes.values())]
    kept = [(box, copy.copy(box)) for box in boxes if isinstance(box, dict | list | set)]
    try:
        yield
    finally:
        for box, before in kept:
            box.clear()
            (box.extend if isinstance(box, list) else box.update)(before)


def difference(whole: torch.Tensor, masked: torch.Tensor, cut: torch.Tensor) -> str | None:
    """Compare the outputs of a whole, a masked and a cut module.

    Args:
        whole: The output of the whole module.
        masked: The output of the module with a mask, of the same shape.
        cut: The output of the cut module.

    Returns:
        None if the cut module computes what the masked one does; else the measured reason.
    """
    if masked.shape != cut.shape:
        return f"the cut module gives {cut.numel()} numbers instead of {masked.numel()}"
    error, largest = (float(values.abs().max()) for values in (masked - cut, masked))
    change = float((whole - masked).abs().max())
    if not change > 0:
        return "its channels do not reach the output of the module"
    if not error <= TOLERANCE * largest:  # NaN is not
        return f"the cut module differs from the masked one by {error / (largest or 1.0):.1e} of the largest value"
    if error * SENSITIVITY > change:
        return f"the mask changes the output by only {change:.1e}, and mask and cut differ by {error:.1e}"
    return None


def wrong_by(masked: torch.Tensor, cut: torch.Tensor) -> str | None:
    """Compare the outputs of a whole model that is masked and one that is cut, in all parts at once.

    Args:
        masked: The output of the masked model.
        cut: The output of the cut model.

    Returns:
        None if they are equal but for rounding; else the measured reason.
    """
    if masked.shape != cut.shape:
        return f"the cut model gives {cut.numel()} numbers instead of {masked.numel()}"
    if not bool(masked.isfinite().all()):
        return None  # at this scale the model itself gives no numbers
    error, largest = float((masked - cut).abs().max()), float(masked.abs().max())
    if error <= WHOLE_TOLERANCE * largest:
        return None
    return f"the whole model, cut, differs from the masked one by {error / (largest or 1.0):.1e} of the largest value"


def failure(error: Exception) -> str:
    """The reason of a cut that could not run, in one line."""
    text = " ".join(str(error).split())
    quoted = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return f"{type(error).__name__}: {quoted}" if text else type(error).__name__


def numbers(output: Any) -> torch.Tensor:
    """All numbers of what a module returned, one after the other."""
    if torch.is_tensor(output):
        return output.detach().float().flatten()
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return torch.cat([torch.zeros(0), *(numbers(value) for value in output)])
    return torch.zeros(0)
