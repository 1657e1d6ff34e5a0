"""`vitsearch plan`: a plan file read, filled in, judged and described."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsearch.cli.arguments import AsJson
from vitsearch.core.json_value import json_text

if TYPE_CHECKING:
    from vitsearch.space.plan_file import WrittenPlan


def plan(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN",
            help="A plan in the words of a space file, or a point of front --json; - for standard input.",
            show_default=False,
        ),
    ],
    space: Annotated[
        Path | None,
        typer.Option(metavar="SPACE", help="A space file that fills in what PLAN leaves out.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a plan written by hand can be built."""
    written = read(file, space)
    if problem := warning(written):
        typer.echo(f"warning: {problem}", err=True)
    typer.echo(json_text(written.plan.to_json()) if as_json else describe(file, written))


def read(file: Path, space_file: Path | None) -> WrittenPlan:
    """The plan in `file`. Raises PlanError with every reason why it cannot be built, SpaceError for a space file with
    problems."""
    from vitsearch import api
    from vitsearch.backbones.catalogue import Catalogue
    from vitsearch.search.plan_space import catalogue_of
    from vitsearch.space.plan_file import Backbones, read_plan

    space = api.judged_space(space_file, ()).require().space if space_file is not None else None
    catalogue = Catalogue.of_facts({}) if space is None else catalogue_of(space)
    return read_plan(file, space, Backbones(catalogue.supports, catalogue.native_resolution))


def warning(written: WrittenPlan) -> str | None:
    """What is known against the plan's combination of model, runtime and precision; None when nothing is."""
    from vitsearch.core.caveats import known_bad

    plan = written.plan
    return known_bad.warning(plan.backbone, plan.deployment)


def describe(file: Path, written: WrittenPlan) -> str:
    """The plan in one line, and a line with what was filled in."""
    from vitsearch.core.plan import plan_text

    filled = ", ".join(f"{key} {value}" for key, value in written.filled_in.items())
    return f"{file}: fine. {plan_text(written.plan)}" + (f"\nfilled in: {filled}" if filled else "")
