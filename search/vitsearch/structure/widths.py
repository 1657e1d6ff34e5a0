"""Hidden channels between two layers: where they are, the mask that removes them, the cut.

A *producer* makes H channels. Behind it, in the order of execution, come modules that treat each channel alone or norm
over them (*between*), pairs H -> r -> H on pooled channels (*squeezes*), a second producer that a gate multiplies, and
at last the *consumer*, the first layer that reads H channels and mixes them. Anything else ends the candidate.

The mask says what "removed" means: the removed channels are zero behind the producers and behind every module between.
A norm over the hidden channels counts the kept ones only. A global response norm divides by the mean over channels, so
that its weight is multiplied by H over the kept number.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vitsearch.models.surgery import keep_columns, keep_entries, keep_rows, replace_noted_size
from vitsearch.structure.proof import frozen_vectors
from vitsearch.structure.trace import Trace, common_scope, inputs_of, is_mixer, outputs_of
from vitsearch.structure.values import Width

SMALLEST = 16
"""Channels below which a width is not worth a knob."""
RESPONSE_NORM = "GlobalResponseNorm"


def candidates(trace: Trace) -> Iterator[Width]:
    """Everything in a model that looks like a width, in the order of execution; `difference` decides.

    Stems, classifiers, squeezes and widths under `SMALLEST` are left out: they are exact too, but save nothing.
    """
    names = _acting(trace)
    for index, name in enumerate(names):
        layer = trace.modules[name]
        grouped = getattr(layer, "groups", 1) > 1
        if not is_mixer(layer) or grouped or trace.calls[name] > 1 or index == 0:
            continue
        width = _from(trace, names, index)
        if width is not None and _is_worth_it(trace, width):
            yield width


def keep_channels(root: nn.Module, width: Width, kept: Sequence[int]) -> None:
    """Remove channels from a module, in place.

    Args:
        root: The module that the names of `width` start from. It may have been cut before.
        width: The channels of the whole module.
        kept: Indices of the units that stay, among those that are there now, ascending.
    """
    channels = grain_columns(kept, width.grain)
    now = inputs_of(root.get_submodule(width.consumer))
    rows = [*channels, *(now + channel for channel in channels)] if width.halves else channels
    for name in width.producers:
        keep_rows(_layer(root, name), rows)
    for name in width.between:
        _keep_between(root.get_submodule(name), [(now * (1 + width.halves), rows), (now, channels)])
    for reduces, expands in width.squeezes:
        keep_columns(_layer(root, reduces), channels)
        keep_rows(_layer(root, expands), channels)
    keep_columns(_layer(root, width.consumer), channels)


def grain_columns(units: Sequence[int], grain: int) -> list[int]:
    """The channels of these units."""
    return [unit * grain + channel for unit in units for channel in range(grain)]


def has_channels(module: nn.Module, width: Width) -> bool:
    """Whether a module between has numbers for each channel, so that a cut changes it."""
    sizes = {width.channels, width.channels * (1 + width.halves)}
    return any(
        sizes & {*values.shape} for values in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    )


def group_size(module: nn.Module, channels: int) -> int:
    """How many channels a norm over groups of them takes together: they stay or go together, as those that stay would
    be normed with others. 1 for a norm over single channels or all of them, and for other modules."""
    if not isinstance(module, nn.GroupNorm) or module.num_groups == 1 or module.num_channels != channels:
        return 1
    return channels // module.num_groups


def current_units(root: nn.Module, width: Width) -> int:
    """How many units are there now."""
    return outputs_of(root.get_submodule(width.producers[0])) // (width.grain * (1 + width.halves))


@contextmanager
def masked(root: nn.Module, width: Width, kept: Sequence[int]) -> Iterator[None]:
    """Inside this context the channels of the other units are zero, as the text of this module says."""
    mask = torch.zeros(width.channels)
    mask[grain_columns(kept, width.grain)] = 1
    masks = (torch.cat([mask, mask]), mask) if width.halves else (mask,)
    hooks = [
        root.get_submodule(name).register_forward_hook(_zero_removed(masks))
        for name in (*width.producers, *width.between)
    ]
    consumer = root.get_submodule(width.consumer)
    hooks.append(
        consumer.register_forward_pre_hook(
            lambda layer, inputs: (_times(inputs[0], mask, _axis(inputs[0], width.channels, layer)), *inputs[1:])
        )
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def below(width: Width, scope: str) -> Width:
    """The same with names that start from `scope`."""

    def short(name: str) -> str:
        return name[len(scope) + 1 :] if scope else name

    return replace(
        width,
        scope=short(width.scope) if width.scope != scope else "",
        producers=tuple(map(short, width.producers)),
        between=tuple(map(short, width.between)),
        squeezes=tuple((short(reduces), short(expands)) for reduces, expands in width.squeezes),
        consumer=short(width.consumer),
    )


# ---- candidates


def _acting(trace: Trace) -> list[str]:
    """Modules with parameters of their own, and no children with parameters, in the order of execution. Those of a
    frozen norm, or of one that has statistics alone, are buffers."""

    def acts(module: nn.Module) -> bool:
        if next(module.parameters(recurse=False), None) is None:
            has_statistics = getattr(module, "running_mean", None) is not None
            return (has_statistics or bool(frozen_vectors(module))) and next(module.children(), None) is None
        return is_mixer(module) or not any(True for child in module.children() for _ in child.parameters())

    return [name for name in trace.order if acts(trace.modules[name])]


@dataclass
class _Walk:
    """What has been passed on the way from a producer."""

    producers: list[str]
    between: list[str]
    squeezes: list[tuple[str, str]]
    grain: int = 1


def _from(trace: Trace, names: list[str], start: int) -> Width | None:
    first = trace.modules[names[start]]
    channels, walk, index = outputs_of(first), _Walk([names[start]], [], []), start + 1
    while index < len(names):
        name, module = names[index], trace.modules[names[index]]
        if not is_mixer(module):
            walk.grain = math.lcm(walk.grain, group_size(module, channels))
            walk.between.append(name)
        elif _is_squeeze(trace, names, index, channels, names[start]):
            walk.squeezes.append((name, names[index + 1]))
            index += 1
        elif getattr(module, "groups", 1) > 1:
            if not inputs_of(module) == outputs_of(module) == channels:
                return None
            walk.grain = math.lcm(walk.grain, channels // int(module.groups))
            walk.between.append(name)
        elif _is_gate(names[start], first, name, module) and len(walk.producers) == 1:
            walk.producers.append(name)
        elif inputs_of(module) in (channels, channels / 2):
            halves = inputs_of(module) != channels
            return _width(trace, walk, name, inputs_of(module), halves)
        else:
            return None
        index += 1
    return None


def _width(trace: Trace, walk: _Walk, consumer: str, channels: int, halves: bool) -> Width:
    squeezed = [name for pair in walk.squeezes for name in pair]
    scope = common_scope([*walk.producers, *walk.between, *squeezed, consumer])
    while scope and not trace.ran(scope):
        scope = scope.rpartition(".")[0]
    return Width(
        scope, tuple(walk.producers), tuple(walk.between), tuple(walk.squeezes), consumer, channels, walk.grain, halves
    )


def _is_squeeze(trace: Trace, names: list[str], index: int, channels: int, producer: str) -> bool:
    """Whether a layer and the next one are a squeeze and excitation: H -> r -> H on pooled channels."""
    if index + 1 >= len(names):
        return False
    reduces, expands = (trace.modules[name] for name in names[index : index + 2])
    if not (is_mixer(expands) and inputs_of(reduces) == channels == outputs_of(expands)):
        return False
    return _is_pooled(trace, names[index]) and not _is_pooled_output(trace.output_of(producer))


def _is_pooled(trace: Trace, name: str) -> bool:
    values = trace.input(name)
    return values is not None and _is_pooled_output(values)


def _is_pooled_output(values: Any) -> bool:
    """Whether there is one position for each image."""
    if not torch.is_tensor(values):
        return False
    return values.ndim == 2 or (values.ndim == 4 and 1 in (values[0, 0].numel(), values[0, ..., 0].numel()))


def _is_gate(name: str, layer: nn.Module, other_name: str, other: nn.Module) -> bool:
    """Whether a second layer beside the producer reads the same input and makes as many channels."""
    beside = name.rpartition(".")[0] == other_name.rpartition(".")[0]
    alike = (inputs_of(layer), outputs_of(layer)) == (inputs_of(other), outputs_of(other))
    return beside and alike and inputs_of(other) != outputs_of(layer)


def _is_worth_it(trace: Trace, width: Width) -> bool:
    if width.channels < SMALLEST or width.units < 2 or not width.scope:
        return False
    if width.halves and width.grain > 1:
        return False
    if trace.calls[width.consumer] > 1 or _is_logits(trace, width.consumer):
        return False
    return not _is_pooled_output(trace.output_of(width.producers[0]))


def _is_logits(trace: Trace, name: str) -> bool:
    values = trace.output_of(name)
    return torch.is_tensor(trace.output) and torch.is_tensor(values) and torch.equal(values, trace.output)


# ---- mask


def _zero_removed(masks: Sequence[torch.Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not torch.is_tensor(output):
            return output
        for mask in masks:
            axis = _axis(output, len(mask), module)
            if axis is None:
                continue
            if _is_channel_norm(module):
                return _norm_over_kept(module, inputs[0], mask, axis)
            return _times(output, mask, axis)
        return output

    return hook


def _norm_over_kept(norm: nn.Module, values: torch.Tensor, mask: torch.Tensor, axis: int) -> torch.Tensor:
    kept = mask.nonzero().flatten()
    small = copy.deepcopy(norm)
    _select(small, len(mask), kept.tolist())
    output = torch.zeros_like(values)
    return output.index_copy_(axis, kept, small(values.index_select(axis, kept)))


def _times(values: torch.Tensor, mask: torch.Tensor, axis: int | None) -> torch.Tensor:
    if axis is None:
        return values
    return values * mask.view([-1 if index == axis else 1 for index in range(values.ndim)])


def _axis(values: torch.Tensor, channels: int, module: nn.Module) -> int | None:
    """The axis of the channels of `values`, next to `module`; None if they are not there."""
    is_map = values.ndim == 4 and values.shape[1] == channels and not _reads_last(module)
    axis = 1 if isinstance(module, nn.Conv2d) or is_map else values.ndim - 1
    return axis if values.ndim > axis and values.shape[axis] == channels else None


def _reads_last(module: nn.Module) -> bool:
    """Whether the channels are the last axis of what a module reads."""
    is_norm_of_tokens = isinstance(module, nn.LayerNorm) and not type(module).__name__.endswith("2d")
    return isinstance(module, nn.Linear) or is_norm_of_tokens


def _is_channel_norm(module: nn.Module) -> bool:
    """Whether a module norms over the channels; batch norms and response norms do not."""
    return isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm) or type(module).__name__ in (
        "RmsNorm",
        "RmsNorm2d",
        "RmsNormFp32",
        "SimpleNorm",
        "SimpleNorm2d",
        "SimpleNormFp32",
    )


# ---- cut


def _layer(root: nn.Module, name: str) -> Any:
    return root.get_submodule(name)


def _keep_between(module: Any, sizes: Sequence[tuple[int, list[int]]]) -> None:
    """Cut a module between; `sizes` are the numbers of channels that it may have now, each with those that it keeps."""
    if isinstance(module, nn.Conv2d):
        (now, kept), *_ = sizes
        module.groups = len(kept) * module.groups // now
        keep_rows(module, kept)
        module.in_channels = len(kept)
        return
    lengths = {
        length
        for values in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        for length in values.shape
    }
    size, kept = next(((size, kept) for size, kept in sizes if size in lengths), (0, []))
    if size:
        _select(module, size, kept)
    if size and type(module).__name__.startswith(RESPONSE_NORM):
        with torch.no_grad():
            module.weight.mul_(size / len(kept))


def _select(module: nn.Module, size: int, kept: list[int]) -> None:
    per_group = group_size(module, size)
    keep_entries(module, size, kept)
    replace_noted_size(module, size, len(kept))
    if isinstance(module, nn.GroupNorm) and per_group > 1:
        module.num_groups = len(kept) // per_group
