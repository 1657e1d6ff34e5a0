"""Attention heads: where they are, the mask that removes them, the cut.

An attention is a module that notes its number of heads and holds at least two layers that ran. The last of them, the
consumer, reads the outputs of all heads side by side, `head_dim` columns each; the mask sets the columns of the removed
heads to zero. The rows of the other layers belong to heads in one of two layouts, both of which are tried: `parts`
(`[queries, keys, values][heads]`) or `heads` (`[heads][queries, keys, values]`). Tables with a row for each head lose
rows. Attentions whose forward cannot have fewer heads have an entry in `head_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vitsearch.errors import PlanError
from vitsearch.models.surgery import (
    head_columns,
    keep_columns,
    keep_entries,
    keep_rows,
    replace_noted_size,
)
from vitsearch.structure.head_rules import rule_for
from vitsearch.structure.trace import Trace, inputs_of, is_mixer, outputs_of
from vitsearch.structure.values import Heads

COUNTS = ("num_heads", "n_heads", "heads", "num_attention_heads")
"""Names under which attentions note the number of their heads."""
WIDTHS = ("attn_dim", "all_head_dim", "inner_dim", "dim_out", "out_dim", "att_dim")
"""Names under which they note the width of all heads together."""
PARTS, HEADS, RULE = "parts", "heads", "rule"


def candidates(trace: Trace) -> Iterator[tuple[str, int, list[Heads]]]:
    """The attentions of a model, each with its heads and the layouts that it may have; `difference` decides."""
    for name in trace.order:
        module = trace.modules[name]
        rule = rule_for(module)
        if rule is not None:
            count = rule.heads(module)
            if count > 1:
                width = inputs_of(module.get_submodule(rule.consumer))
                yield name, count, [Heads(name, f"{name}.{rule.consumer}", count, width // count, RULE)]
            else:
                yield name, count, []
            continue
        count, layers = head_count(module), _layers(trace, name)
        if not count or len(layers) < 2 or _holds_attention(module):
            continue
        width = inputs_of(trace.modules[layers[-1]])
        if count < 2 or width % count:
            yield name, count, []
            continue
        yield name, count, [Heads(name, layers[-1], count, width // count, layout) for layout in (PARTS, HEADS)]


def head_count(module: nn.Module) -> int:
    """The number of heads that a module notes; 0 without."""
    counts = (getattr(module, name, None) for name in COUNTS)
    return next((count for count in counts if type(count) is int), 0)


def current_heads(root: nn.Module, heads: Heads) -> int:
    """How many heads are there now."""
    return inputs_of(root.get_submodule(heads.consumer)) // heads.head_dim


def keep_heads(root: nn.Module, heads: Heads, kept: Sequence[int]) -> None:
    """Remove heads from a module, in place.

    Args:
        root: The module that the names of `heads` start from. It may have been cut before.
        heads: The heads of the whole module.
        kept: Indices of the heads that stay, among those that are there now, ascending.
    """
    attention = root.get_submodule(heads.scope) if heads.scope else root
    if heads.layout == RULE:
        rule = rule_for(attention)
        assert rule is not None, f"{heads.scope}: the rule of its class is gone"
        rule.keep(attention, kept)
        return
    _Cut(attention, current_heads(root, heads), heads, kept).apply(root)


@contextmanager
def masked(root: nn.Module, heads: Heads, kept: Sequence[int]) -> Iterator[None]:
    """Inside this context the consumer reads zeros in the columns of the other heads."""
    mask = torch.zeros(heads.count * heads.head_dim)
    mask[head_columns(kept, heads.head_dim)] = 1

    def zero(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return inputs[0] * (mask.view(1, -1, 1, 1) if isinstance(layer, nn.Conv2d) else mask), *inputs[1:]

    hook = root.get_submodule(heads.consumer).register_forward_pre_hook(zero)
    try:
        yield
    finally:
        hook.remove()


class _Cut:
    """One generic cut of an attention."""

    def __init__(self, attention: nn.Module, now: int, heads: Heads, kept: Sequence[int]) -> None:
        self._attention, self._now, self._heads, self._kept = attention, now, heads, list(kept)
        self._width = now * heads.head_dim

    def apply(self, root: nn.Module) -> None:
        consumer = root.get_submodule(self._heads.consumer)
        layers: list[Any] = [layer for layer in self._attention.modules() if is_mixer(layer) and layer is not consumer]
        widths = {outputs_of(layer) for layer in layers}
        for layer in layers:
            if getattr(layer, "groups", 1) > 1:
                raise PlanError(f"{self._heads.scope}: a grouped convolution mixes its heads")
            keep_rows(layer, self._rows(outputs_of(layer)))
        for module in self._attention.modules():
            if not is_mixer(module) and module is not self._attention:
                self._keep_between(module, widths)
        keep_columns(consumer, head_columns(self._kept, self._heads.head_dim))  # type: ignore[arg-type]
        self._keep_tables()
        self._keep_counts()

    def _rows(self, outputs: int) -> list[int]:
        """The rows that stay of a layer with so many outputs."""
        if outputs % self._now:
            raise PlanError(f"{self._heads.scope}: {outputs} rows are not a multiple of its {self._now} heads")
        if self._heads.layout == PARTS and outputs % self._width == 0:
            run, columns = self._width, head_columns(self._kept, self._heads.head_dim)
            return [part * run + column for part in range(outputs // run) for column in columns]
        return head_columns(self._kept, outputs // self._now)

    def _keep_between(self, module: Any, widths: set[int]) -> None:
        """Norms and depthwise convolutions over all heads; those over the columns of one head stay as they are."""
        lengths = {length for values in module.parameters(recurse=False) for length in values.shape}
        width = max(widths & lengths, default=0)
        if not width:
            return
        rows = self._rows(width)
        if isinstance(module, nn.Conv2d):
            module.groups = module.in_channels = len(rows)
            keep_rows(module, rows)
            return
        keep_entries(module, width, rows)
        replace_noted_size(module, width, len(rows))

    def _keep_tables(self) -> None:
        for module in self._attention.modules():
            if is_mixer(module):
                continue
            if module is self._attention or type(module).__name__.startswith("RelPos"):
                keep_entries(module, self._now, self._kept)
            for name, value in vars(module).items():
                if "cache" in name and isinstance(value, dict):
                    value.clear()

    def _keep_counts(self) -> None:
        for module in self._attention.modules():
            for name, value in list(vars(module).items()):
                if name in COUNTS and type(value) is int and value == self._now:
                    setattr(module, name, len(self._kept))
                elif isinstance(value, tuple) and "shape" in name and value[-1:] == (self._now,):
                    setattr(module, name, (*value[:-1], len(self._kept)))
        for name in WIDTHS:
            if getattr(self._attention, name, None) == self._width:
                setattr(self._attention, name, len(self._kept) * self._heads.head_dim)


def _layers(trace: Trace, name: str) -> list[str]:
    """The layers of a module that mix channels and ran, in the order of execution."""
    return [other for other in trace.order if other.startswith(f"{name}.") and is_mixer(trace.modules[other])]


def _holds_attention(module: nn.Module) -> bool:
    """Whether a part of it notes a number of heads and holds layers: then the part is the attention."""
    parts = (part for part in module.modules() if part is not module)
    return any(head_count(part) and any(is_mixer(layer) for layer in part.modules()) for part in parts)
