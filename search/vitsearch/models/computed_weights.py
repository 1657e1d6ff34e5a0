"""Weights that a layer computes from other tensors in each forward, such as weight and spectral norm: made plain ones.

An exported file holds the product in any case, and a plain weight can be cut, refitted and quantized. Fine-tuning then
trains the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

OLD_NAMES_HOOK = "_weight_norm_compat_hook"
"""Of torch, by which its parametrized weight norm takes a file of its older one."""


@dataclass(frozen=True)
class _Computed:
    """A computed tensor of a module.

    Attributes:
        name: Its name in the module.
        sources: The tensors that it is computed from, by their names in the module.
        value: Computes it.
        fold: Puts a parameter with its value in its place.
    """

    name: str
    sources: dict[str, torch.Tensor]
    value: Callable[[], torch.Tensor]
    fold: Callable[[], Any]


def fold(model: nn.Module) -> nn.Module:
    """Make each computed weight a parameter.

    Args:
        model: In evaluation mode. It is changed in place.

    Returns:
        The model, which gives what it gave.
    """
    for module in [*model.modules()]:
        for computed in [*_computed(module)]:
            computed.fold()
    return model


def folded_state(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute the weights of a file.

    Args:
        model: The network as its author makes it, in evaluation mode. Its shapes may differ from those of the file; it
            is of no use afterwards.
        state: The tensors of the file, by their names in the model.

    Returns:
        The tensors by their names in a model after `fold`. Where the file has these names already, they stay.
    """
    folded = dict(state)
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for hook in module._load_state_dict_pre_hooks.values():
            if getattr(hook, "__name__", "") == OLD_NAMES_HOOK:
                hook(folded, prefix, {}, False, [], [], [])
        for computed in _computed(module):
            if all(prefix + name in folded for name in computed.sources):
                for name, source in computed.sources.items():
                    source.data = folded.pop(prefix + name)
                with torch.no_grad():
                    folded[prefix + computed.name] = computed.value()
    return folded


def _computed(module: nn.Module) -> Iterator[_Computed]:
    if parametrize.is_parametrized(module):
        for name, parametrization in cast(nn.ModuleDict, module.parametrizations).items():
            tensors = parametrization.state_dict(keep_vars=True).items()
            sources = {f"parametrizations.{name}.{key}": tensor for key, tensor in tensors}
            fold = partial(parametrize.remove_parametrizations, module, name)
            yield _Computed(name, sources, parametrization, fold)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            sources, value = _named(module, hook.name, "gv"), partial(hook.compute_weight, module)
            yield _Computed(hook.name, sources, value, partial(remove_weight_norm, module, hook.name))
        elif isinstance(hook, SpectralNorm):
            sources = _named(module, hook.name, ("orig", "u", "v"))
            value = partial(hook.compute_weight, module, do_power_iteration=False)
            yield _Computed(hook.name, sources, value, partial(_remove_spectral_norm, module, hook.name))


def _named(module: nn.Module, name: str, endings: Iterable[str]) -> dict[str, torch.Tensor]:
    return {f"{name}_{ending}": getattr(module, f"{name}_{ending}") for ending in endings}


def _remove_spectral_norm(module: nn.Module, name: str) -> None:
    remove_spectral_norm(module, name)
    hooks = module._load_state_dict_pre_hooks  # torch leaves its own there, which refuses a plain weight
    for key, wrapped in [*hooks.items()]:
        hook = getattr(wrapped, "hook", wrapped)
        if isinstance(hook, SpectralNormLoadStateDictPreHook) and hook.fn.name == name:
            del hooks[key]
