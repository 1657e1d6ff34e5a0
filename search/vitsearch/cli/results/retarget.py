"""The command `retarget`. Heavy imports stay inside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vitsearch.cli.arguments import AsJson, StudyName, command_text, resumable
from vitsearch_agent.base.printable import printable

if TYPE_CHECKING:
    from vitsearch.study.retargeted import Fit, Prediction, Retargeted

SHOWN = 5
"""Predicted models that are shown."""


def retarget(
    study: StudyName,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A device of the space file or of 'vitsearch devices', or local for this machine; default: that of "
            "the study.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Threads of one inference; default: as in the study.", show_default=False),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="RUNTIME", help="Default: that of each model in the study.", show_default=False),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What computes; default: as in the study.", show_default=False),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(metavar="PRECISION", help="Default: that of each model in the study.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Measure all models.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find a study's front on another device, without training.

    Measures its models in the order in which they are likely to be on that front, and predicts the others from those.
    Where another runtime or precision needs another file, it is exported from the trained weights. The same command
    resumes.
    """
    # optuna and sqlalchemy; ray to measure: only for those who retarget
    from vitsearch import api
    from vitsearch.cli import live
    from vitsearch.cli.results.front import print_front
    from vitsearch.core.json_value import json_text
    from vitsearch.study.printed.models import PrintedRetargeting
    from vitsearch.study.retargeted import Target

    stored = api.open_study(study)
    target = Target(device or stored.device(), backend, provider, quantization, threads)
    is_plain = plain or as_json or not sys.stdout.isatty()
    with resumable(), live.progress((), is_plain, sys.stderr) as progress:
        retargeted = stored.retarget(target, every, progress)
    front = stored.front(target.name)
    if as_json:
        typer.echo(json_text(PrintedRetargeting.of(retargeted, front)))
        return
    print_front(front)
    for line in lines(retargeted):
        typer.echo(printable(line))
    typer.echo(f"The same front again: {command_text('front', study, '--device', target.name)}")


def lines(retargeted: Retargeted) -> Iterator[str]:
    """What was measured, how well the rest is predicted, and what is left out."""
    total = len(retargeted.models) + len(retargeted.predictions)
    yield f"Measured {len(retargeted.models)} of {total} models; nothing was trained."
    yield from map(_fit_text, retargeted.fits)
    if retargeted.predictions:
        yield "Not measured, the likeliest on the front first (--all measures them):"
        yield from (f"  {_prediction_text(prediction)}" for prediction in retargeted.predictions[:SHOWN])
        if len(retargeted.predictions) > SHOWN:
            yield f"  and {len(retargeted.predictions) - SHOWN} more, which --json prints"
    for reason in dict.fromkeys(retargeted.left_out.values()):
        trials = ", ".join(str(trial) for trial, other in retargeted.left_out.items() if other == reason)
        yield f"Left out: trial {trials}: {reason}"


def _fit_text(fit: Fit) -> str:
    """The errors of the graphs that were measured, each predicted from the others."""
    rank = "" if fit.spearman is None else f", Spearman {fit.spearman:.3f}"
    errors = f"median error {fit.median_error:.1%}{rank}, {fit.covered:.0%} within their 95 % intervals"
    return f"{fit.metric} of {fit.graphs} measured graphs, each predicted from the others: {errors}"


def _prediction_text(prediction: Prediction) -> str:
    from vitsearch.core.plan import plan_text

    costs = [
        f"{name} {value:.3g} ({prediction.intervals[name][0]:.3g} to {prediction.intervals[name][1]:.3g})"
        for name, value in prediction.values.items()
    ]
    about = f"{', '.join(costs)}; {prediction.chance:.0%} likely on the front"
    return f"trial {prediction.trial}: {plan_text(prediction.plan)}: {about}"
