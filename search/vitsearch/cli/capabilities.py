"""The tables of the operators that each backbone supports, and of the precisions that each runtime supports.

They are built by asking `supports`, so they cannot differ from it. `vitsearch capabilities` prints what
`describe` returns; `docs/capabilities.md` contains that output.
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
"""One backbone of each design. A family without an example is represented by its first variant."""
RATIO = 0.25
ASKED: tuple[tuple[str, str, Any], ...] = (
    ("heads", "head_pruning_ratio", RATIO),
    ("FFN", "ffn_pruning_ratio", RATIO),
    ("depth", "depth_pruning_ratio", RATIO),
    ("embedding", "embed_pruning_ratio", RATIO),
    ("sparsity", "weight_sparsity", "50%"),
    ("int8 in convolutions", "quantized_ops", precisions.ALL),
)
YES, NO = "yes", "no"


@dataclass
class _Footnotes:
    """Reasons, numbered in the order of their first use."""

    reasons: list[str] = field(default_factory=list)

    def of_backbone(self, name: str, reason: str) -> str:
        return self.mark(reason.replace(f"{name} ", "", 1).replace(name, "the model"))

    def mark(self, reason: str) -> str:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"no [{self.reasons.index(reason) + 1}]"

    def lines(self) -> list[str]:
        return [f"{number}. {reason}" for number, reason in enumerate(self.reasons, 1)]


def examples() -> tuple[str, ...]:
    """At least one backbone of every registered family, in the order of `EXAMPLES`."""
    families = {name: backbones.FAMILIES.get(name)() for name in backbones.FAMILIES.names()}
    claimed = [name for name in EXAMPLES if any(family.claims(name) for family in families.values())]
    missing = [f for f in families.values() if not any(f.claims(name) for name in claimed)]
    return (*claimed, *(family.variants()[0] for family in missing))


def describe(names: Sequence[str]) -> str:
    """Two tables and the reasons, in Markdown. Raises `UnknownName` for an unknown name."""
    notes = _Footnotes()
    heads = ["backbone", "family", "variants", *(title for title, _, _ in ASKED), "windows", "tokens", "distillation"]
    rows = [heads, ["---"] * len(heads), *(_row(name, notes) for name in names)]
    precisions = typing.get_args(Precision)
    table = [["runtime", *precisions], ["---"] * (len(precisions) + 1)]
    table += [[runtime, *_precisions(runtime, notes)] for runtime in typing.get_args(Runtime)]
    return "\n".join([*map(_line, rows), "", *map(_line, table), "", "Reasons:", "", *notes.lines()])


def _row(name: str, notes: _Footnotes) -> list[str]:
    family = backbones.find(name)
    cells = [name, family.family, str(len(family.variants()))]
    cells += [_cell(name, knob, value, notes) for _, knob, value in ASKED]
    cells += [_windows(name, notes), _tokens(name, notes)]
    targets = [word for word in typing.get_args(Distillation) if backbones.supports(name, "distillation", word) is None]
    return [*cells, ", ".join(targets)]


def _cell(name: str, knob: str, value: Any, notes: _Footnotes) -> str:
    reason = backbones.supports(name, knob, value)
    return YES if reason is None else notes.of_backbone(name, reason)


def _windows(name: str, notes: _Footnotes) -> str:
    """The windows that fit at the native resolution."""
    fitting = backbones.find(name).windows(name, backbones.native_resolution(name))
    if fitting:
        return ", ".join(map(str, fitting))
    return notes.of_backbone(name, backbones.supports(name, "window_size", 2) or "is built with one window only")


def _tokens(name: str, notes: _Footnotes) -> str:
    reason = backbones.supports(name, "token_pruning_ratio", RATIO)
    if reason is not None:
        return notes.of_backbone(name, reason)
    methods = typing.get_args(TokenPruning)
    return ", ".join(method for method in methods if backbones.supports(name, "token_pruning_method", method) is None)


def _precisions(runtime: str, notes: _Footnotes) -> list[str]:
    """Precisions that a runtime simply does not have need no reason. Of int8 the cell has the quantized layers."""
    features = precisions.RUNTIMES[runtime]
    return [
        ", ".join(features.quantized_ops.get(precision, (YES,)))
        if precision in features.precisions
        else notes.mark(features.refused[precision])
        if precision in features.refused
        else NO
        for precision in typing.get_args(Precision)
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
