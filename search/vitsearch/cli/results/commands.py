"""The commands that read a study: status, front, show, compare, explain. Heavy imports stay inside them."""

from __future__ import annotations

from typing import Annotated

import typer

from vitsearch.cli.arguments import AsJson, Form, Query, StudyName

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="The number of a trial, baseline or knee.", show_default=False)
]


def status(study: StudyName, as_json: AsJson = False) -> None:
    """Show the state of a study: outcomes and cost so far."""
    from vitsearch import api
    from vitsearch.cli import tables
    from vitsearch.core.json_value import json_text

    state = api.open_study(study).status()
    typer.echo(json_text(state)) if as_json else tables.print_status(state)


def front(
    study: StudyName,
    every: Annotated[
        bool, typer.Option("--all", help="All confirmed models, also those that are dominated or break a limit.")
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Only models for which it holds, such as 'cpu_ms_p50 < 12 and quantization != fp32'.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A metric (the best first) or a knob; -NAME reverses. Default: the first cost.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The models that 'vitsearch retarget' has measured there, such as nano or local+threads2.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="csv has timm's benchmark columns, perf-yaml the shape of AI Hub's perf.yaml."),
    ] = Form.TABLE,
    as_json: AsJson = False,
) -> None:
    """Show the Pareto front: models that no other dominates.

    Models within the limits, with intervals, ties and the knee. A model dominates another if it is at least as good in
    every objective and better in one. Where no model is within
    the limits, the nearest are shown, and which limit to loosen by how much. The exit code is 1 if no model is shown.
    """
    from vitsearch import api
    from vitsearch.cli.results.front import show

    if not show(api.open_study(study), Query(every, where, sort, device), Form.JSON if as_json else form):
        raise typer.Exit(1)


def show(
    study: StudyName,
    model: ModelName,
    per_class: Annotated[
        bool,
        typer.Option("--per-class", help="Also what it finds of each class, and what it takes the rest for."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one model: reasons, file, metrics, knobs, costs."""
    from vitsearch import api
    from vitsearch.cli.results import show as printed

    printed.show(api.open_study(study), model, per_class, as_json)


def compare(
    study: StudyName,
    first: ModelName,
    second: ModelName,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="Run both files on the validation images here, and compare image by image.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two models: what differs, what is significant.

    Metric by metric, with intervals of the differences, and knob by knob.
    """
    from vitsearch import api
    from vitsearch.cli.results import compare as printed

    printed.compare(api.open_study(study), first, second, paired, as_json)


def explain(study: StudyName, as_json: AsJson = False) -> None:
    """Show what each knob did to each objective.

    Also shows which knobs matter and how accurate the predictions were. Effects come from a least-squares fit with one
    term per knob, for each backbone, with 95 % intervals.
    """
    from vitsearch import api
    from vitsearch.cli.results.explain import print_explanation
    from vitsearch.core.json_value import json_text
    from vitsearch.study.printed.effects import PrintedExplanation

    explanation = api.open_study(study).explain()
    typer.echo(json_text(PrintedExplanation.of(explanation))) if as_json else print_explanation(explanation)
