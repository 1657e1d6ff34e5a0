"""The output of `vitsearch capabilities BACKBONE --try`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from vitsearch import backbones
from vitsearch.cli.rows import Rows
from vitsearch.cli.terminal import Terminal
from vitsearch.core.caveats.precision_shares import in_name_only, shown
from vitsearch.core.json_value import json_text
from vitsearch.core.plan import precision_text
from vitsearch.core.precisions import RUNTIMES
from vitsearch.errors import UnknownName
from vitsearch_evaluators.base.printable import printable

if TYPE_CHECKING:
    from vitsearch.core.backbone_check import BackboneCheck, FileCheck

COLUMNS = ["precision", "runtime", "result", "MACs", "difference", "size_mb", "latency_ms"]
LEGEND = (
    "MACs: those that the runtime computes in that precision. difference: of the logits to those of torch in fp32 "
    "(int8_qat: of torch with rounding), over the largest logit; large ones are normal for int8 on random weights. "
    "latency_ms: one image, one thread, on this machine."
)


def try_backbones(names: Sequence[str], resolution: int | None, runtimes: Sequence[str], as_json: bool) -> bool:
    """Try each backbone and print what works; returns whether all of it does.

    Without `runtimes`, they are tried in those whose files are written in seconds.

    Raises `UnknownName` before anything is tried.
    """
    for name in names:
        backbones.find(name)
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise UnknownName("runtime", runtime, RUNTIMES)
    _say(f"trying {', '.join(names)}: loading torch")
    from vitsearch.workers.backbone_check import QUICK, check_backbone  # torch, onnx and onnxruntime

    console, attempts = Terminal(), []
    for name in names:
        attempts.append(check_backbone(name, resolution, runtimes or QUICK, _say))
        if not as_json:
            print_attempt(attempts[-1], console)
    if as_json:
        console.out(json_text(attempts), highlight=False)
    return all(attempt.works for attempt in attempts)


def _say(text: str) -> None:
    """What begins now; on standard error, so that a pipe gets the result alone."""
    typer.echo(printable(text), err=True)


def print_attempt(attempt: BackboneCheck, console: Console) -> None:
    title = f"{attempt.backbone} ({attempt.family}) at {attempt.resolution} pixels"
    if attempt.params_m is not None and attempt.macs_m is not None:
        title += f": {attempt.params_m:.1f} million parameters, {attempt.macs_m:.0f} million MACs"
    if attempt.reason is not None:
        console.print(f"{title}\ndoes not work: {attempt.reason}", markup=False)
        return
    rows = [_row(file) for file in attempt.files]
    console.print(Rows(COLUMNS, rows, ["precision", "MACs"], title))
    for line in _reasons(attempt.files):
        console.print(line, markup=False)
    console.print(LEGEND, style="dim", markup=False)


def _row(file: FileCheck) -> list[str]:
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
