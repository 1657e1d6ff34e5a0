"""`vitsearch check`: each part is printed as soon as it is known, what the file alone shows before the libraries that
build models are loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import counted
from vitsearch.cli.terminal import Terminal, say
from vitsearch.core.json_value import json_text
from vitsearch.errors import SpaceError, VitsearchError
from vitsearch_agent.base.printable import printable_lines

if TYPE_CHECKING:
    from vitsearch.search.check import CheckedFile
    from vitsearch.search.check.connections import Connections
    from vitsearch.search.check.unpruned_costs import BackboneCosts

SILENT_S = 2.0
"""After so long without a line, one says what is under way."""


@dataclass(frozen=True)
class CheckRequest:
    """What the command is asked to check. `devices` are descriptions; `costs` and `connect` add those parts."""

    space: Path
    overrides: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    costs: bool = True
    connect: bool = False


@dataclass(frozen=True)
class Report:
    """Prints what was found. As JSON, standard output gets one document at the end; warnings, problems and what is
    under way go to standard error."""

    as_json: bool
    warned: set[str] = field(default_factory=set)

    def part(self, text: str) -> None:
        if text and not self.as_json:
            say(text)

    def table(self, rows: Rows) -> None:
        if not self.as_json:
            Terminal().print(rows)

    def warn(self, warnings: Iterable[str]) -> None:
        """Print those that were not printed yet."""
        for warning in warnings:
            if warning not in self.warned:
                self.warned.add(warning)
                say(f"warning: {warning}", err=True)

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        """Say what is under way where the block takes longer."""
        timer = threading.Timer(SILENT_S, typer.echo, (f"{what} ...",), {"err": True})
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def check_all(request: CheckRequest, report: Report) -> None:
    """Check a space file, and print each part as soon as it is known.

    Raises `SpaceError` with every problem, and `typer.Exit` where all of them were printed already."""
    with report_new_problems_only(of_file(request.space, request.overrides)):
        with report.under_way("loading PyTorch and the backbones"):
            from vitsearch.devices import descriptions
            from vitsearch.search import check

            file = check.check_file(request.space, request.overrides)
        described, unnamed = [], None
        for name in request.devices:
            try:
                described.append(descriptions.find_named(name))
            except VitsearchError as error:
                unnamed = error
                typer.echo(printable_lines(f"--as {name}: {error}"), err=True)
        report.warn(file.warnings)
        tried = _connected(file, report) if request.connect else None
        with report.under_way("reading the images"):
            data = check.check_data(file)
        report.warn(data.warnings)
        report.part(data.describe())
        with report.under_way("classifying images with the weights files"):
            checked = check.Checked(file, data, check.check_weights_of(file, data))
        report.warn(checked.warnings)
        with report.under_way("counting plans"):
            review = check.check_devices(checked, described) if described else checked.require()
        report.part(review.describe())
        costs = None
        if request.costs:
            valid = checked.require()
            with report.under_way("counting parameters and MACs of models"):
                models = check.count_models(valid)
            report.table(backbone_table(models.screening.backbones))
            report.part(models.describe())
            with report.under_way("timing training steps"):
                time = check.estimate_time(valid)
            report.part(time.describe() if time is not None else "")
            costs = models.with_time(time)
    if report.as_json:
        from vitsearch.search.check.printed import PrintedCheck

        typer.echo(json_text(PrintedCheck.of(review, tried, costs)))
    if unnamed is not None:
        raise typer.Exit(unnamed.exit_code)
    if tried is not None and tried.problems:
        raise typer.Exit(max(problem.exit_code for problem in tried.problems))


def backbone_table(backbones: Sequence[BackboneCosts]) -> Rows:
    """One row for each backbone of a space."""
    rows = [
        [
            costs.backbone,
            ", ".join(map(str, costs.resolutions)),
            str(costs.base_resolution),
            f"{costs.macs_m:,.0f}" if costs.macs_m >= 1000 else f"{costs.macs_m:.3g}",
            f"{costs.params_m:.3g}",
            str(costs.files),
            f"{costs.screening_s / 60:.1f}",
        ]
        for costs in backbones
    ]
    headings = ["backbone", "resolution", "unpruned at", "MACs [M]", "params [M]", "files", "screening [min]"]
    return Rows(headings, rows, ["backbone", "resolution"])


def _connected(file: CheckedFile, report: Report) -> Connections | None:
    from vitsearch.search.check.connections import STUDY, try_connections

    if file.connectable is None:
        typer.echo("--connect was skipped: correct the problems above first", err=True)
        return None
    with report.under_way("asking what a run needs"):
        tried = try_connections(file.connectable, () if file.is_whole else (STUDY,))
    report.part(printable_lines(tried.describe()))
    report.warn(tried.notes)
    if tried.problems:
        head = f"a run would not start: {counted(len(tried.problems), 'problem')}"
        typer.echo(printable_lines("\n".join([head, *(f"  {problem}" for problem in tried.problems)])), err=True)
    return tried


def of_file(space: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """Print the problems of a space file that need neither data nor models, and return their lines."""
    from vitsearch.space import read_draft

    problems = tuple(read_draft(space, overrides).lines())
    if problems:
        typer.echo(printable_lines(str(SpaceError(str(space), problems))), err=True)
    return problems


@contextmanager
def report_new_problems_only(said: Sequence[str]) -> Iterator[None]:
    """Of the problems that end the block, print those that were not said yet."""
    try:
        yield
    except SpaceError as error:
        if not said:
            raise
        more = [problem for problem in error.problems if problem not in said]
        if more:
            text = "\n".join(
                [f"{error.where}: {counted(len(more), 'more problem')}", *(f"  {addition}" for addition in more)]
            )
            typer.echo(printable_lines(text), err=True)
        raise typer.Exit(error.exit_code) from None
    except VitsearchError as error:  # such as a task's name, which the data are read by
        if not any(line.endswith(str(error)) for line in said):
            raise
        raise typer.Exit(error.exit_code) from None
