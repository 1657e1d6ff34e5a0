"""`vitsearch capabilities`: the operators that each backbone supports, and the precisions of each runtime.

The tables are built by asking `supports`, so they cannot differ from it; `docs/capabilities.md` contains them. With
`--try`, each backbone is built and exported, and its files run.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from vitsearch import backbones
from vitsearch.cli.rows import Rows
from vitsearch.cli.terminal import Terminal
from vitsearch.core import precisions
from vitsearch.core.caveats.precision_shares import in_name_only, shown
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_text
from vitsearch.core.onnx_exporters import needs_dynamo
from vitsearch.core.plan import precision_text
from vitsearch.core.targets import TARGETS
from vitsearch.errors import UnknownName
from vitsearch.space.globs import is_glob
from vitsearch.space.knobs import Distillation, Precision, Runtime, TokenPruning
from vitsearch_agent.base.printable import printable

if TYPE_CHECKING:
    from vitsearch.core.backbone_check import BackboneCheck, FileCheck

EXAMPLES = (
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
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
    "resnet18",
    "mobilenetv4_conv_small",
    "convnext_atto",
    "maxvit_pico_rw_256",
    "vit_small_patch16_dinov3",
)
"""One backbone of each design. A declared family without an example is represented by its first variant."""
RATIO = 0.25
ASKED: tuple[tuple[str, str, Any], ...] = (
    ("heads", "head_pruning_ratio", RATIO),
    ("hidden channels", "ffn_pruning_ratio", RATIO),
    ("depth", "depth_pruning_ratio", RATIO),
    ("embedding", "embed_pruning_ratio", RATIO),
    ("sparsity", "weight_sparsity", "50%"),
    ("int8 in convolutions", "quantized_ops", precisions.ALL),
)
YES, NO = "yes", "no"
COLUMNS = ["precision", "runtime", "result", "MACs", "difference", "size_mb", "latency_ms"]
LEGEND = (
    "MACs: those that the runtime computes in that precision. difference: of the logits to those of torch in fp32 "
    "(int8_qat: of torch with rounding), over the largest logit; large ones are normal for int8 on random weights. "
    "latency_ms: one image, one thread, on this machine."
)


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
    families = [backbones.FAMILIES.get(name)() for name in backbones.FAMILIES.names()]
    missing = [family for family in families if not any(family.claims(name) for name in EXAMPLES)]
    return (*EXAMPLES, *(family.variants()[0] for family in missing))


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """The names, and those that globs stand for. Raises `UnknownName` for a glob that matches nothing."""
    groups = (backbones.matching(name, "none") if is_glob(name) else (name,) for name in names)
    return tuple(dict.fromkeys(name for group in groups for name in group))


def describe(names: Sequence[str], doing: Callable[[str], None] = lambda text: None) -> str:
    """Two tables and the reasons, in Markdown; `doing` gets what begins now.

    Raises `UnknownName` for an unknown name, before anything is looked at.
    """
    for name in names:
        backbones.find(name)
    for name in names:
        doing(f"looking at {name}")
        backbones.found_levels(name)
    notes = _Footnotes()
    asked = (title for title, _, _ in ASKED)
    heads = ["backbone", "family", "variants", *asked, "windows", "rectangles", "maps", "tokens", "distillation"]
    rows = [heads, ["---"] * len(heads), *(_row(name, notes) for name in names)]
    precisions = typing.get_args(Precision)
    table = [["runtime", *precisions], ["---"] * (len(precisions) + 1)]
    table += [[runtime, *_precisions(runtime, notes)] for runtime in typing.get_args(Runtime)]
    found = list(_found(names))
    return "\n".join([*map(_line, rows), "", *found, *map(_line, table), "", "Reasons:", "", *notes.lines()])


def _found(names: Sequence[str]) -> Iterator[str]:
    """What was found in models without a declared family, level by level."""
    levels = {name: backbones.found_levels(name) for name in names}
    is_refused = {name: backbones.supports(name, "quantization", "fp32") is not None for name in names}
    listed = {name: level for name, level in levels.items() if level is not None and not is_refused[name]}
    if listed:
        yield "Found by tracing a forward, and proved on numbers:"
        yield ""
        yield from (f"- {name}: {'; '.join((*level.lines(), *_exporter(name)))}" for name, level in listed.items())
        yield ""


def _exporter(name: str) -> Iterator[str]:
    """That torch's newer exporter writes the files, where it does."""
    if (reason := needs_dynamo(name)) is not None:
        yield f"torch's newer exporter writes its files, because {reason}"


def _row(name: str, notes: _Footnotes) -> list[str]:
    family = backbones.find(name)
    cells = [name, family.family, str(len(family.variants()))]
    if (refused := backbones.supports(name, "quantization", "fp32")) is not None:
        return [*cells, *[notes.of_backbone(name, refused)] * (len(ASKED) + 5)]
    cells += [_cell(name, knob, value, notes) for _, knob, value in ASKED]
    cells += [_windows(name, notes), _rectangles(name, notes), _maps(name, notes), _tokens(name, notes)]
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


def _rectangles(name: str, notes: _Footnotes) -> str:
    """Whether it takes images of twice its width."""
    native = backbones.native_resolution(name)
    return _cell(name, "resolution", ImageSize(native.height, 2 * native.width), notes)


def _maps(name: str, notes: _Footnotes) -> str:
    """Whether it gives a class for each position of a map."""
    reason = backbones.find(name).why_no_map(name)
    return YES if reason is None else notes.of_backbone(name, f"{name} {reason}")


def _tokens(name: str, notes: _Footnotes) -> str:
    reason = backbones.supports(name, "token_pruning_ratio", RATIO)
    if reason is not None:
        return notes.of_backbone(name, reason)
    methods = typing.get_args(TokenPruning)
    return ", ".join(method for method in methods if backbones.supports(name, "token_pruning_method", method) is None)


def _precisions(runtime: str, notes: _Footnotes) -> list[str]:
    """Precisions that a runtime simply does not have need no reason. Of int8 the cell has the quantized layers."""
    features = TARGETS[runtime]
    return [
        ", ".join(features.quantized_ops.get(precision, (_where(runtime, precision),)))
        if precision in features.precisions
        else notes.mark(features.refused[precision])
        if precision in features.refused
        else NO
        for precision in typing.get_args(Precision)
    ]


def _where(runtime: str, precision: str) -> str:
    """`yes`, or the only providers that compute in a precision."""
    if precision in precisions.precisions_on(runtime, precisions.default_provider(runtime)):
        return YES
    providers = TARGETS[runtime].providers
    return ", ".join(name for name in providers if precision in precisions.precisions_on(runtime, name))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def try_backbones(names: Sequence[str], resolution: ImageSize | None, runtimes: Sequence[str], as_json: bool) -> bool:
    """Try each backbone and print what works; returns whether all of it does.

    Without `runtimes`, they are tried in those whose files are written in seconds.

    Raises `UnknownName` before anything is tried.
    """
    for name in names:
        backbones.find(name)
    for runtime in runtimes:
        if runtime not in TARGETS:
            raise UnknownName("runtime", runtime, TARGETS)
    say(f"trying {', '.join(names)}: loading torch")
    from vitsearch.workers.backbone_check import check_backbone  # torch, onnx and onnxruntime

    console, checks = Terminal(), []
    for name in names:
        checks.append(check_backbone(name, resolution, runtimes, say))
        if not as_json:
            print_check(checks[-1], console)
    if as_json:
        console.out(json_text(checks), highlight=False)
    return all(check.works for check in checks)


def say(text: str) -> None:
    """What begins now; on standard error, so that a pipe gets the result alone."""
    typer.echo(printable(text), err=True)


def print_check(check: BackboneCheck, console: Console) -> None:
    title = f"{check.backbone} ({check.family}) at {check.resolution} pixels"
    if check.params_m is not None and check.macs_m is not None:
        title += f": {check.params_m:.1f} million parameters, {check.macs_m:.0f} million MACs"
    if check.reason is not None:
        console.print(f"{title}\ndoes not work: {check.reason}", markup=False)
        return
    rows = [_file_row(file) for file in check.files]
    console.print(Rows(COLUMNS, rows, ["precision", "MACs"], title))
    for line in _reasons(check.files):
        console.print(line, markup=False)
    console.print(LEGEND, style="dim", markup=False)


def _file_row(file: FileCheck) -> list[str]:
    result = "works" if file.reason is None else "refused" if file.is_refused else "fails"
    figures = (file.difference, ".1e"), (file.size_mb, ".2f"), (file.latency_ms, ".2f")
    return [
        precision_text(file.precision, file.quantized_ops),
        file.runtime,
        result,
        shown(file.precision, file.shares),
        *("" if figure is None else format(figure, form) for figure, form in figures),
    ]


def _reasons(files: Sequence[FileCheck]) -> Iterator[str]:
    """Each reason once, with the files that it concerns."""
    concerned: dict[str, list[str]] = {}
    for file in files:
        if reason := file.reason or in_name_only(file.precision, file.shares):
            concerned.setdefault(reason, []).append(
                f"{precision_text(file.precision, file.quantized_ops)} on {file.runtime}"
            )
    return (f"{', '.join(which)}: {reason}" for reason, which in concerned.items())
