"""`vitsearch report`, `serve` and `dashboard`: a study as a page, as the same page live, in optuna-dashboard."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import typer

from vitsearch.cli.arguments import StudyName
from vitsearch.errors import StoreError
from vitsearch_agent.base.printable import printable

Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 for any free one.")]


def report(
    study: StudyName,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page: one HTML file that needs no network.", show_default=False),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The front as a drawing, for slides.", show_default=False)
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The front as a picture, for slides.", show_default=False)
    ] = None,
) -> None:
    """Write a study as one HTML file: the front, every trial, how it was found and how it was measured."""
    from vitsearch import api
    from vitsearch.report.page import page
    from vitsearch.report.picture import front_picture

    if to is None and svg is None and png is None:
        raise typer.BadParameter("say what to write: --to FILE.html, --svg FILE.svg or --png FILE.png")
    for path in filter(None, (to, svg, png)):
        if not path.parent.is_dir():  # a typing error would otherwise make a folder
            raise StoreError(f"{path} cannot be written: there is no folder {path.parent}")
    summary = api.open_study(study).report()
    if svg is not None:
        _write(svg, front_picture(summary).to_svg().encode())
    if png is not None:
        _write(png, front_picture(summary).to_png())
    if to is not None:
        _write(to, page(summary.to_json(), live=False).encode())


def _write(path: Path, content: bytes) -> None:
    from vitsearch.storage.atomic_files import no_room, replacing
    from vitsearch_agent.base.plain_files import require_replaceable

    try:
        require_replaceable(str(path))
        with replacing(path) as stream:
            stream.write(content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {no_room(error) or error.strerror}") from None
    typer.echo(printable(f"Wrote {path} ({len(content) / 1e6:.1f} MB)"))


def serve(study: StudyName, port: Port = 0) -> None:
    """Show the report of a study while it runs, in a browser on this machine.

    Only who knows the address gets an answer. Ctrl-C ends it; the run goes on.
    """
    from vitsearch.report.live import LiveStudy
    from vitsearch.report.serve import serve as serve_study

    live = LiveStudy(study)
    with closing(live), suppress(KeyboardInterrupt):
        serve_study(
            live,
            port,
            lambda address: typer.echo(f"Open {address}\nCtrl-C ends it; the run goes on."),
            lambda text: typer.echo(
                f"{printable(text)}; the page returns when the study does; Ctrl-C stops the server"
            ),
        )


def dashboard(study: StudyName, port: Port = 8080) -> None:
    """Open a copy of the study in optuna-dashboard, if that is installed."""
    from vitsearch.report.dashboard import dashboard as open_dashboard

    with suppress(KeyboardInterrupt):
        open_dashboard(study, port, lambda address: typer.echo(f"Open {address}\nCtrl-C ends it."))
