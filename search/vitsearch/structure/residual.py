"""Residual modules: those that add to their input, and where inside of them the output of a layer is added.

A module is residual if it returns its input once all of its parameters are zero. It can be dropped: a pass-through in
its place changes nothing else of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn

from vitsearch.compress.stream import streams
from vitsearch.models.backbone import Branch
from vitsearch.structure.proof import run
from vitsearch.structure.trace import Trace, is_mixer
from vitsearch.structure.values import Addition

EQUAL, MOVED = 1e-6, 1e-4
"""Of the largest input: up to which two tensors are equal, and from which on a module changes its input."""
AFFINE = 1e-5
"""Of the largest value of the stream: allowed error of the sum of a stream and a branch."""
NEAREST = 12
"""Modules in front of a layer, and behind it, at which its branch is looked for: a stage holds hundreds."""
MOVES_TRIED = 4
"""Number of places that are tried with the derivative of the stream, which takes a forward and two backward passes."""
HOLDERS_TRIED = 3
"""So many modules around a layer are searched, where none of them is residual as a whole."""


def residual_modules(trace: Trace) -> list[str]:
    """All residual modules of a model, in the order of execution: blocks, their parts, and stages of blocks."""
    return [name for name in trace.order if _is_residual(trace, name)]


def blocks_among(trace: Trace, residual: Sequence[str], is_crowded: Callable[[str], bool]) -> list[str]:
    """Choose the modules that are dropped as one.

    Args:
        trace: Of the model.
        residual: Its residual modules.
        is_crowded: Whether a module holds more than one block does: too many heads or widths.

    Returns:
        Modules of which none is a part of another one, nor holds only residual modules (a stage), nor is crowded if
        residual modules are in it; in the order of execution.
    """
    chosen: list[str] = []
    for name in sorted(residual, key=lambda name: -name.count(".")):
        inside = [other for other in chosen if other.startswith(f"{name}.")]
        if inside and (is_crowded(name) or not _holds_more(trace, name, inside)):
            continue
        chosen = [other for other in chosen if other not in inside] + [name]
    return [name for name in residual if name in chosen]


def addition_of(trace: Trace, consumer: str, block: str | None = None) -> Addition | None:
    """Where the output of a layer is added to a stream.

    Args:
        trace: Of the model.
        consumer: The layer.
        block: A residual module that holds it, if there is one.

    Returns:
        The nearest place at which the output arrives scaled and moved, but not mixed; None if there is none.
    """
    for scope in _scopes(trace, consumer, block):
        places = list(_places(trace, consumer, scope))
        for place in places:
            if _is_scaled_sum(trace, consumer, place):
                return place
        moved = (place for place in places if _is_permuted_sum(trace, consumer, place))
        for place in islice(moved, MOVES_TRIED):
            if _is_moved_sum(trace, consumer, scope, place):
                return place
    return None


def _scopes(trace: Trace, consumer: str, block: str | None) -> Iterator[str]:
    """The modules that hold a layer, the smallest first: up to `block`, or a few of them."""
    parts = consumer.split(".")
    holders = [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    holders = [name for name in holders if trace.ran(name)]
    yield from holders[: holders.index(block) + 1] if block in holders else holders[:HOLDERS_TRIED]


def _places(trace: Trace, consumer: str, scope: str) -> Iterator[Addition]:
    """Where the branch of a layer may leave the stream and join it, the likely places first."""
    output = trace.output_of(consumer)
    if not torch.is_tensor(output):
        return
    size = output.numel()
    inside = [name for name in trace.order if f"{name}.".startswith(f"{scope}.") and _reads(trace, name, size)]
    position = trace.order.index(consumer)
    starts = [name for name in reversed(inside) if trace.order.index(name) < position]
    starts = [name for name in starts if name == scope] + [name for name in starts if name != scope][:NEAREST]
    ends = [(name, trace.modules[name]) for name in inside if trace.order.index(name) > position]
    joins = [(name, True) for name, module in ends if not next(module.children(), None) or is_mixer(module)]
    for end, at_input in [(scope, False), *joins[:NEAREST]]:
        for start in starts:
            yield Addition(start, end, at_input)


def _reads(trace: Trace, name: str, size: int) -> bool:
    """Whether a module reads so many values, as a stream has."""
    values = trace.input(name)
    return values is not None and values.numel() == size and trace.calls[name] == 1


def _ends(trace: Trace, place: Addition) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The stream in front of the branch, and behind the addition, in one shape."""
    before = trace.input(place.leaves)
    behind = trace.input(place.joins) if place.at_input else trace.output_of(place.joins)
    if before is None or not torch.is_tensor(behind) or before.numel() != behind.numel():
        return None
    return before.reshape(behind.shape), behind


def _is_scaled_sum(trace: Trace, consumer: str, place: Addition) -> bool:
    """Whether the stream grows by the output of the layer, each channel scaled and moved by a constant."""
    ends, output = _ends(trace, place), trace.output_of(consumer)
    if ends is None or not torch.is_tensor(output) or output.numel() != ends[0].numel():
        return False
    is_map = isinstance(trace.modules[consumer], nn.Conv2d)
    if is_map != (ends[0].ndim == 4 and ends[0].shape[1] == output.shape[1]) and is_map:
        return False
    added, values = (_by_channel(tensor, is_map) for tensor in (ends[1] - ends[0], output))
    if added.shape != values.shape or len(values) < 2:
        return False
    return _is_affine(values, added, float(ends[1].abs().max()))


def _by_channel(values: torch.Tensor, is_map: bool) -> torch.Tensor:
    return values.flatten(2)[0].T.double() if is_map else values.reshape(-1, values.shape[-1]).double()


def _is_affine(values: torch.Tensor, added: torch.Tensor, largest: float) -> bool:
    """Whether each column of `added` is that of `values` times a number, plus a number."""
    centred, moved = values - values.mean(0), added - added.mean(0)
    power = centred.square().sum(0)
    scale = (centred * moved).sum(0) / power.clamp_min(1e-30)
    error = float((moved - centred * scale).abs().max())
    return error <= AFFINE * largest and bool((scale.abs() > 1e-6).all())


def _is_permuted_sum(trace: Trace, consumer: str, place: Addition) -> bool:
    """A cheap condition for `_is_moved_sum`: without their positions, the values are the same."""
    ends, output = _ends(trace, place), trace.output_of(consumer)
    if ends is None or not torch.is_tensor(output) or output.numel() != ends[0].numel():
        return False
    values = _by_channel(output, isinstance(trace.modules[consumer], nn.Conv2d))
    change, largest = ends[1] - ends[0], float(ends[1].abs().max())
    changes = [_by_channel(change, is_map) for is_map in ((False, True) if change.ndim == 4 else (False,))]
    return any(
        added.shape == values.shape and _is_affine(values.sort(0).values, added.sort(0).values, largest)
        for added in changes
    )


def _is_moved_sum(trace: Trace, consumer: str, scope: str, place: Addition) -> bool:
    """The same where positions are moved on the way, as by windows: the derivative of the stream says where to."""
    ends, output = _ends(trace, place), trace.output_of(consumer)
    if ends is None or not torch.is_tensor(output) or output.numel() != ends[0].numel():
        return False
    layer: Any = trace.modules[consumer]
    branch = Branch(trace.modules[place.leaves], trace.modules[place.joins], place.at_input)
    positional, named = trace.arguments(scope)
    module = _Scope(trace.modules[scope], positional[1:], named)
    try:
        (stream,) = streams(module, [(layer, branch)], positional[0])
    except (RuntimeError, TypeError, AttributeError):  # an addition that torch cannot follow is none
        return False
    if stream is None:
        return False
    change = ends[1] - ends[0]
    moved = change if stream.order is None else change.flatten(1)[:, stream.order]
    is_map = isinstance(layer, nn.Conv2d)
    added, values = (_by_channel(tensor, is_map) for tensor in (moved.reshape(output.shape), output))
    return _is_affine(values, added, float(ends[1].abs().max()))


class _Scope(nn.Module):
    """A module with the arguments that it gets besides the stream."""

    def __init__(self, module: nn.Module, further: Sequence[object], named: dict[str, object]) -> None:
        super().__init__()
        self.module, self._further, self._named = module, tuple(further), named

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(x, *self._further, **self._named)
        return output


def _is_residual(trace: Trace, name: str) -> bool:
    module, stream, output = trace.modules[name], trace.input(name), trace.output_of(name)
    if not name or trace.calls[name] > 1 or isinstance(module, nn.ModuleList) or is_mixer(module):
        return False
    if stream is None or not torch.is_tensor(output) or stream.shape != output.shape:
        return False
    if not any(is_mixer(part) for part in module.modules()):
        return False
    largest = float(stream.abs().max())
    if not float((output - stream).abs().max()) > MOVED * largest:
        return False
    weights = [values.detach().clone() for values in module.parameters()]
    try:
        with torch.no_grad():
            for values in module.parameters():
                values.zero_()
        silent = run(module, trace.arguments(name))
    except Exception:  # noqa: BLE001 - whatever a module of zeros raises, it is not one that adds nothing
        return False
    finally:
        with torch.no_grad():
            for values, weight in zip(module.parameters(), weights, strict=True):
                values.copy_(weight)
    return float((silent - stream.flatten()).abs().max()) <= EQUAL * largest


def _holds_more(trace: Trace, name: str, inside: Sequence[str]) -> bool:
    """Whether a module has parameters of its own beside those of the residual modules inside."""
    own: int = sum(values.numel() for values in trace.modules[name].parameters())
    theirs: int = sum(values.numel() for other in inside for values in trace.modules[other].parameters())
    return theirs < 0.98 * own
