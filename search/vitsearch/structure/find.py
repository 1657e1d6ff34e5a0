"""Find the structure of a model: trace one forward, try each candidate, keep what the proof accepts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vitsearch.models.surgery import PassThrough, is_pointwise
from vitsearch.structure import heads as attention
from vitsearch.structure import widths as channels
from vitsearch.structure.proof import (
    difference,
    draw_vectors,
    failure,
    numbers,
    run,
    settle_batch_norms,
    unchanged,
    wrong_by,
)
from vitsearch.structure.residual import addition_of, blocks_among, residual_modules
from vitsearch.structure.trace import Trace, is_mixer
from vitsearch.structure.values import Heads, Part, Refusal, Structure, Width

SCALES = ((1.0, 0.0), (0.05, 0.5), (3.0, 0.5))
"""Factor and offset of the images of the last proof: what depends on their size goes another way there."""
NOT_SIDE_BY_SIDE = "its heads depend on each other, or do not lie side by side"
STAYS_TORCHS = "its keys or values have a width of their own, or more tokens than its input"


DECLARED = "declared"
"""The kind of a refusal of what the model's author has declared."""


def find_structure(model: nn.Module, images: torch.Tensor, declared: Sequence[Heads | Width] = ()) -> Structure:
    """What of a model can be cut.

    Args:
        model: Takes `images`; norms, biases and layer scales are drawn anew, so it is of no use afterwards.
        images: One image (1, channels, height, width).
        declared: What its author says can be cut, which goes before what is found and is proved like it.

    Returns:
        The parts that the proof accepts, and the candidates that it refuses.
    """
    draw_vectors(model.eval())
    settle_batch_norms(model, images)
    trace = Trace(model, images)
    residual = residual_modules(trace)
    own, refused = _accepted_declared(trace, declared)
    found_heads, refused_heads = _accepted_heads(trace)
    heads = [own_heads for own_heads in own if isinstance(own_heads, Heads)]
    heads += [it for it in found_heads if it.scope not in {own_heads.scope for own_heads in heads}]
    widths = [width for width in own if isinstance(width, Width)]
    found_widths, refused_widths = _accepted_widths(trace, heads, widths, _stem(trace, residual))
    parts = _with_droppable(trace, images, list(_parts(trace, heads, found_widths, residual)))
    parts, refused_parts = _proved_together(trace, images, parts)
    return Structure(tuple(parts), (*refused, *refused_heads, *refused_widths, *refused_parts))


def half(units: int) -> list[int]:
    """Every second unit: what a proof keeps."""
    return list(range(0, units, 2))


def _accepted_declared(trace: Trace, declared: Sequence[Heads | Width]) -> tuple[list[Heads | Width], list[Refusal]]:
    accepted: list[Heads | Width] = []
    refused = []
    for item in declared:
        layers = [item.consumer] if isinstance(item, Heads) else [*item.layers, *item.between]
        missing = [name for name in (item.scope, *layers) if name not in trace.modules]
        if missing:
            reason: str | None = f"it has no module {missing[0]!r}"
        else:
            reason = _refused_heads(trace, item) if isinstance(item, Heads) else _refused_width(trace, item)
        if reason is None:
            accepted.append(item)
        else:
            refused.append(Refusal(DECLARED, item.consumer, type(item).__name__, reason))
    return accepted, refused


def _accepted_heads(trace: Trace) -> tuple[list[Heads], list[Refusal]]:
    accepted, refused = [], []
    for name, count, layouts in attention.candidates(trace):
        kind = type(trace.modules[name]).__name__
        reasons = [] if layouts else [_why_no_layout(trace.modules[name], count)]
        for heads in layouts:
            reason = _refused_heads(trace, heads)
            if reason is None:
                accepted.append(heads)
                break
            reasons.append(reason)
        else:
            refused.append(Refusal("heads", name, kind, reasons[0]))
    return accepted, refused


def _why_no_layout(attention: nn.Module, count: int) -> str:
    if type(attention) is nn.MultiheadAttention:
        return STAYS_TORCHS
    return "it has one head" if count == 1 else NOT_SIDE_BY_SIDE


def _stem(trace: Trace, residual: Sequence[str]) -> set[str]:
    """The convolutions over several pixels in front of the first residual module; none if there is no such module."""
    start = trace.order.index(residual[0]) if residual else 0
    return {name for name in trace.order[:start] if not is_pointwise(trace.modules[name])}


def _accepted_widths(
    trace: Trace, heads: Sequence[Heads], own: Sequence[Width], stem: Collection[str]
) -> tuple[list[Width], list[Refusal]]:
    """One width for each layer, but for those that a layer of the stem reads: they cost accuracy, and save little.

    `own` widths, which are proved, come first, then those whose consumer can be refitted.
    """
    accepted, refused, used = [*own], [], {name for width in own for name in width.layers}
    candidates = [it for it in channels.candidates(trace) if it.consumer not in stem and not _is_inside(it, heads)]
    for width in sorted(candidates, key=lambda it: not is_pointwise(trace.modules[it.consumer])):
        if used & {*width.layers}:
            continue
        reason = _refused_width(trace, width)
        if reason is None:
            accepted.append(width)
            used |= {*width.layers}
        else:
            kind = type(trace.modules[width.scope]).__name__
            refused.append(Refusal("width", f"{width.producers[0]} to {width.consumer}", kind, reason))
    return sorted(accepted, key=lambda it: trace.order.index(it.consumer)), refused


def _is_inside(width: Width, heads: Iterable[Heads]) -> bool:
    return any(f"{width.consumer}.".startswith(f"{it.scope}.") for it in heads)


def _refused_width(trace: Trace, width: Width) -> str | None:
    cut = (*width.layers, *(name for name in width.between if channels.has_channels(trace.modules[name], width)))
    if (reason := _runs_again(trace, cut) or _splits_group(trace, width)) is not None:
        return reason
    local = channels.below(width, width.scope)
    kept = half(width.units)
    return _Trial(trace, width.scope).refused(
        lambda module: channels.masked(module, local, kept),
        lambda module: channels.keep_channels(module, local, kept),
    )


def _refused_heads(trace: Trace, heads: Heads) -> str | None:
    inside = (name for name in trace.order if name.startswith(f"{heads.scope}.") and is_mixer(trace.modules[name]))
    if (reason := _runs_again(trace, (heads.scope, heads.consumer, *inside))) is not None:
        return reason
    scope = heads.scope
    if not torch.is_tensor(trace.output_of(scope)):  # such as the weights too, which most parents do not read
        scope = scope.rpartition(".")[0]
        while scope and not trace.ran(scope):
            scope = scope.rpartition(".")[0]
    skipped = len(scope) + 1 if scope else 0
    local = replace(heads, scope=heads.scope[skipped:], consumer=heads.consumer[skipped:])
    kept = half(heads.count)
    return _Trial(trace, scope).refused(
        lambda module: attention.masked(module, local, kept),
        lambda module: attention.keep_heads(module, local, kept),
    )


def _runs_again(trace: Trace, names: Iterable[str]) -> str | None:
    """Why modules cannot be cut that run more than once. Another place would get what does not fit there; where the
    same place runs again, scores and refits see one of its runs alone."""
    name = next((name for name in names if trace.calls.get(name, 0) > 1), None)
    return None if name is None else f"{name} runs {trace.calls[name]} times in one forward"


def _splits_group(trace: Trace, width: Width) -> str | None:
    """Why the units that were declared do not fit a norm between."""
    for name in width.between:
        sizes = [width.channels, *([2 * width.channels] if width.halves else [])]
        size = max(channels.group_size(trace.modules[name], size) for size in sizes)
        if width.grain % size:
            return f"{name} norms groups of {size} channels, so grain must be a multiple of {size}, not {width.grain}"
    return None


@dataclass(frozen=True)
class _Trial:
    """A module on its recorded arguments: whole, masked and cut."""

    trace: Trace
    scope: str

    def refused(
        self, mask: Callable[[nn.Module], AbstractContextManager[None]], cut: Callable[[nn.Module], None]
    ) -> str | None:
        module = self.trace.modules[self.scope]
        arguments = self.trace.arguments(self.scope)
        try:
            with mask(module):
                expected = run(module, arguments)
            with unchanged(module):
                cut(module)
                return difference(numbers(self.trace.output_of(self.scope)), expected, run(module, arguments))
        except Exception as error:  # noqa: BLE001 - whatever a module raises when it is cut wrongly is the reason
            return failure(error)


def _parts(trace: Trace, heads: Sequence[Heads], widths: Sequence[Width], residual: Sequence[str]) -> Iterator[Part]:
    def is_crowded(block: str) -> bool:
        return any(sum(it.consumer.startswith(f"{block}.") for it in of_kind) > 1 for of_kind in (heads, widths))

    items: list[Heads | Width] = sorted([*heads, *widths], key=lambda it: trace.order.index(it.consumer))
    blocks = blocks_among(trace, residual, is_crowded)
    holders = [next((name for name in blocks if item.consumer.startswith(f"{name}.")), None) for item in items]
    index = 0
    while index < len(items):
        block = holders[index]
        stop = index + 1
        while block is not None and stop < len(items) and holders[stop] == block:
            stop += 1
        yield from _of_block(trace, block, items[index:stop])
        index = stop


def _of_block(trace: Trace, block: str | None, items: Sequence[Heads | Width]) -> Iterator[Part]:
    """One part if the block has at most one set of heads and one width; else one for each of them."""
    heads = [item for item in items if isinstance(item, Heads)]
    widths = [item for item in items if isinstance(item, Width)]
    if block is not None and len(heads) <= 1 and len(widths) <= 1:
        part = Part(block, next(iter(heads), None), next(iter(widths), None), removable=True)
        yield _placed(trace, part, block)
        return
    for item in items:
        is_heads = isinstance(item, Heads)
        part = Part(item.consumer, item if is_heads else None, None if is_heads else item)  # type: ignore[arg-type]
        yield _placed(trace, part, block)


def _with_droppable(trace: Trace, images: torch.Tensor, parts: list[Part]) -> list[Part]:
    """The parts, of which those alone are removable without which the model runs: some parents read their blocks."""
    if _runs_without(trace, images, [part.name for part in parts if part.removable]):
        return parts
    return [replace(it, removable=it.removable and _runs_without(trace, images, [it.name])) for it in parts]


def _runs_without(trace: Trace, images: torch.Tensor, names: Sequence[str]) -> bool:
    model = trace.model
    try:
        for name in names:
            model.set_submodule(name, PassThrough())
        with torch.no_grad():
            output = model(images)
    except Exception:  # noqa: BLE001 - whatever a model raises without a block, it needs it
        return False
    finally:
        for name in names:
            model.set_submodule(name, trace.modules[name])
    return [torch.is_tensor(output) and output.shape] == [torch.is_tensor(trace.output) and trace.output.shape]


def _proved_together(trace: Trace, images: torch.Tensor, parts: list[Part]) -> tuple[list[Part], list[Refusal]]:
    """The parts whose cuts are right on the whole model, all at once. A module may keep its channels for another one to
    read, which the proof on the module alone does not see."""
    if _wrong_together(trace, images, parts) is None:
        return parts, []
    kept, refused = list[Part](), list[Refusal]()
    for part in parts:
        reason = _wrong_together(trace, images, [part]) or _wrong_together(trace, images, [*kept, part])
        if reason is None:
            kept.append(part)
        else:
            item = part.width or part.heads
            assert item is not None
            kind = type(trace.modules[part.name]).__name__
            refused.append(Refusal("width" if part.width else "heads", item.consumer, kind, reason))
    return kept, refused


def _wrong_together(trace: Trace, images: torch.Tensor, parts: Sequence[Part]) -> str | None:
    """Why the model with the cuts of these parts is not the masked one, for an image of each scale, side by side.

    Some deep models amplify rounding to the size of their logits. In float64 it stays small; a wrong cut stays wrong.
    """
    turned = (images if index % 2 == 0 else images.flip(-1) for index in range(len(SCALES)))
    batch = torch.cat([image * factor + offset for image, (factor, offset) in zip(turned, SCALES, strict=True)])
    try:
        reason = _cut_differs(trace.model, batch, parts)
    except Exception as error:  # noqa: BLE001 - whatever a model raises when it is cut wrongly is the reason
        return failure(error)
    if reason is None:
        return None
    try:
        return _cut_differs(copy.deepcopy(trace.model).double(), batch.double(), parts)
    except Exception:  # noqa: BLE001 - its code may take float32 alone
        return reason


def _cut_differs(model: nn.Module, images: torch.Tensor, parts: Sequence[Part]) -> str | None:
    tensors = (*model.parameters(), *model.buffers())
    smaller = copy.deepcopy(model, {id(values): values for values in tensors})  # a cut replaces them
    for part in parts:
        if part.heads is not None:
            attention.keep_heads(smaller, part.heads, half(part.heads.count))
        if part.width is not None:
            channels.keep_channels(smaller, part.width, half(part.width.units))
    arguments = (images,), dict[str, Any]()
    with ExitStack() as masks:
        for part in parts:
            if part.heads is not None:
                masks.enter_context(attention.masked(model, part.heads, half(part.heads.count)))
            if part.width is not None:
                masks.enter_context(channels.masked(model, part.width, half(part.width.units)))
        expected = run(model, arguments)
    outputs = zip(expected.chunk(len(SCALES)), run(smaller, arguments).chunk(len(SCALES)), strict=True)
    return next((reason for pair in outputs if (reason := wrong_by(*pair)) is not None), None)


def _placed(trace: Trace, part: Part, block: str | None) -> Part:
    """The part with the places of its consumers: the norm behind, and the stream that the output is added to."""
    for kind, item in (("heads", part.heads), ("width", part.width)):
        if item is None:
            continue
        norm = _norm_behind(trace, item.consumer)
        addition = addition_of(trace, item.consumer, block)
        if kind == "heads":
            part = replace(part, heads_norm=norm, heads_addition=addition)
        else:
            part = replace(part, width_norm=norm, width_addition=addition)
    return part


def _norm_behind(trace: Trace, consumer: str) -> str | None:
    """The batch norm that reads what the consumer gives; some flatten it first."""
    behind = trace.order[trace.order.index(consumer) :]
    norms = (name for name in behind if isinstance(trace.modules[name], nn.BatchNorm1d | nn.BatchNorm2d))
    return next((name for name in norms if trace.is_directly_behind(consumer, name)), None)
