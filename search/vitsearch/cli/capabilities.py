"""Which backbone takes which operator, and which runtime which precision: read from ``supports``, never kept apart.

``vitsearch capabilities`` prints what :func:`describe` gives; ``docs/capabilities.md`` is that output.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsearch import backbones
from vitsearch.core import precisions
from vitsearch.space.knobs import Distillation, Precision, Runtime, TokenPruning

EXAMPLES = (
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_tiny_tf_224",
    "levit_128s",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "efficientvit_b0",
    "efficientvit_m0",
    "tiny_vit_5m_224",
    "efficientformerv2_s0",
    "fastvit_t8",
    "repvit_m0_9",
    "edgenext_xx_small",
)
"""One of each design; of a family that is not among them its first variant stands for it."""
RATIO = 0.25
ASKED: tuple[tuple[str, str, Any], ...] = (
    ("heads", "head_pruning_ratio", RATIO),
    ("FFN", "ffn_pruning_ratio", RATIO),
    ("depth", "depth_pruning_ratio", RATIO),
    ("embedding", "embed_pruning_ratio", RATIO),
    ("sparsity", "weight_sparsity", "50%"),
)
YES = "yes"


@dataclass
class _Notes:
    """Reasons, numbered as they come; the same reason has one number."""

    told: list[str] = field(default_factory=list)

    def mark(self, name: str, reason: str) -> str:
        reason = reason.replace(f"{name} ", "", 1).replace(name, "the model")
        if reason not in self.told:
            self.told.append(reason)
        return f"no [{self.told.index(reason) + 1}]"

    def lines(self) -> list[str]:
        return [f"{number}. {reason}" for number, reason in enumerate(self.told, 1)]


def examples() -> tuple[str, ...]:
    """Backbones that stand for every family that is registered, in the order of :data:`EXAMPLES`."""
    families = {name: backbones.FAMILIES.get(name)() for name in backbones.FAMILIES.names()}
    claimed = [name for name in EXAMPLES if any(family.claims(name) for family in families.values())]
    missing = [f for f in families.values() if not any(f.claims(name) for name in claimed)]
    return (*claimed, *(family.variants()[0] for family in missing))


def describe(names: Sequence[str]) -> str:
    """Two tables and the reasons, in Markdown. :class:`~vitsearch.errors.UnknownName` for no backbone."""
    notes = _Notes()
    heads = ["backbone", "family", "variants", *(title for title, _, _ in ASKED), "windows", "tokens", "distillation"]
    rows = [heads, ["---"] * len(heads), *(_row(name, notes) for name in names)]
    precisions = typing.get_args(Precision)
    made = [["runtime", *precisions], ["---"] * (len(precisions) + 1)]
    made += [[runtime, *_precisions(runtime, notes)] for runtime in typing.get_args(Runtime)]
    return "\n".join([*map(_line, rows), "", *map(_line, made), "", "Where not, why:", "", *notes.lines()])


def _row(name: str, notes: _Notes) -> list[str]:
    family = backbones.find(name)
    cells = [name, family.family, str(len(family.variants()))]
    cells += [_cell(name, knob, value, notes) for _, knob, value in ASKED]
    cells += [_windows(name, notes), _tokens(name, notes)]
    targets = [word for word in typing.get_args(Distillation) if backbones.supports(name, "distillation", word) is None]
    return [*cells, ", ".join(targets)]


def _cell(name: str, knob: str, value: Any, notes: _Notes) -> str:
    reason = backbones.supports(name, knob, value)
    return YES if reason is None else notes.mark(name, reason)


def _windows(name: str, notes: _Notes) -> str:
    """Those that fit at the native resolution."""
    fitting = backbones.find(name).windows(name, backbones.native_resolution(name))
    if fitting:
        return ", ".join(map(str, fitting))
    return notes.mark(name, backbones.supports(name, "window_size", 2) or "is built with one window only")


def _tokens(name: str, notes: _Notes) -> str:
    reason = backbones.supports(name, "token_pruning_ratio", RATIO)
    if reason is not None:
        return notes.mark(name, reason)
    methods = typing.get_args(TokenPruning)
    return ", ".join(method for method in methods if backbones.supports(name, "token_pruning_method", method) is None)


def _precisions(runtime: str, notes: _Notes) -> list[str]:
    reasons = [precisions.supports(runtime, precision) for precision in typing.get_args(Precision)]
    return [YES if reason is None else notes.mark(runtime, reason) for reason in reasons]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
