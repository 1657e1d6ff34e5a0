"""One forward of a model: the order in which its modules run, with what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Trace:
    """The first call of each module, recorded from one forward of `images` (1, channels, height, width).

    Attributes:
        model: The model, in evaluation mode.
        modules: Its modules by dotted name.
        order: The names of the modules that ran, in the order in which they started.
        calls: How often each of them ran.
        output: What the model gave.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        self.model = model.eval()
        self.modules = dict(model.named_modules())
        self.order: list[str] = []
        self.calls: dict[str, int] = {}
        self._arguments: dict[str, Arguments] = {}
        self._outputs: dict[str, Any] = {}
        hooks = []
        for name, module in self.modules.items():
            hooks.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            hooks.append(module.register_forward_hook(self._behind(name)))
        try:
            with torch.no_grad():
                self.output = model(images)
        finally:
            for hook in hooks:
                hook.remove()

    def arguments(self, name: str) -> Arguments:
        """Fresh copies of the arguments of the first call of a module."""
        positional, named = self._arguments[name]
        return copied(positional), copied(named)

    def input(self, name: str) -> torch.Tensor | None:
        """The first tensor that a module got."""
        positional, _ = self._arguments[name]
        return positional[0] if positional and torch.is_tensor(positional[0]) else None

    def output_of(self, name: str) -> Any:
        """What the first call of a module returned."""
        return self._outputs.get(name)

    def ran(self, name: str) -> bool:
        return name in self._arguments

    def is_directly_behind(self, name: str, other: str) -> bool:
        """Whether the first argument of `other` has the values that `name` returned, perhaps in another shape."""
        values, output = self.input(other), self.output_of(name)
        if values is None or not torch.is_tensor(output) or values.numel() != output.numel():
            return False
        return torch.equal(values.flatten(), output.flatten())

    def _before(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            if name in self._arguments:
                return
            self.order.append(name)
            self._arguments[name] = copied(positional), copied(named)

        return hook

    def _behind(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if name not in self._outputs:
                self._outputs[name] = copied(output)

        return hook


def copied(value: Any) -> Any:
    """A copy of nested tuples, lists and dictionaries of tensors: a module may work in place."""
    if torch.is_tensor(value):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    return value


def is_mixer(module: nn.Module) -> bool:
    """Whether a module mixes channels: a linear layer or a convolution that is not depthwise."""
    if isinstance(module, nn.Linear):
        return True
    return isinstance(module, nn.Conv2d) and not 1 < module.groups == module.in_channels == module.out_channels


def inputs_of(layer: Any) -> int:
    """Number of channels that a linear layer or a convolution reads."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def outputs_of(layer: Any) -> int:
    """Number of channels that a linear layer or a convolution makes."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def common_scope(names: list[str]) -> str:
    """The dotted name of the smallest module that holds all of these modules."""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)
