"""``vitsearch devices``: boards that this user knows, what they are and what they are doing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vitsearch.errors import ResourceError

app = typer.Typer(help="Boards: which are known, what they are, what they are doing.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As 'vitsearch devices list' shows it.", show_default=False)]


@app.command("list")
def list_devices(as_json: AsJson = False) -> None:
    """All devices that are known here, and whether they answer."""
    from vitsearch.cli import device_tables

    rows = device_tables.overview(_book().devices())
    _print(rows) if as_json else device_tables.print_overview(rows)


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://board.local:8470", show_default=False)],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: from the host's name.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Of the certificate, as the agent prints it; else it is shown to be confirmed.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token; else it is asked for, or read from a pipe.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a device known: its address, its certificate and its token. Again with the same name replaces them."""
    from vitsearch.cli import device_tables
    from vitsearch.devices import pairing

    book = _book()
    asked = pairing.Asked(url, name or pairing.name_from(url), fingerprint)
    pinned = pairing.pin(asked, book, _confirm)
    found = pairing.verified(asked, pinned, _token(token_file))
    book.put(asked.name, found.device)
    if as_json:
        _print(device_tables.row(asked.name, found.device, found.info))
    else:
        typer.echo(f"{asked.name} is {device_tables.board(found.info)}; a space file now says: devices: [{asked.name}]")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Forget a device and its token."""
    book = _book()
    book.remove(name)
    _print({"removed": name}) if as_json else typer.echo(f"{name} is forgotten.")


@app.command()
def status(name: Name, as_json: AsJson = False) -> None:
    """One device: its queue and whose jobs they are, its conditions, what it can run and measure."""
    from vitsearch.cli import device_tables

    found = device_tables.status(name, _book().get(name))
    _print(found) if as_json else device_tables.print_status(found)


@app.command()
def peaks(
    name: Name,
    runtime: Annotated[str, typer.Option(help="Of the device.")] = "onnxruntime",
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Beside one; default: all of its processors.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The peaks of a device, for a roofline: products of matrices for each precision, copies of memory.

    They are measured once in each environment of the device, in half a minute or so on a small board.
    """
    from vitsearch.cli import device_tables

    found = device_tables.peaks(name, _book().get(name), runtime, threads)
    _print(found) if as_json else device_tables.print_peaks(found)


@app.command()
def cancel(
    name: Name,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The beginning of its id is enough.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Cancel a job that waits or runs, whoever sent it."""
    from vitsearch.cli import device_tables

    cancelled = device_tables.cancel(name, _book().get(name), job)
    _print(cancelled) if as_json else typer.echo(
        device_tables.printable(f"{cancelled['id'][:12]} of {cancelled['study']}: {cancelled['state']}")
    )


def _book() -> Any:
    import os

    from vitsearch.devices.registry import DeviceBook

    return DeviceBook.of_user(os.environ)


def _print(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _confirm(url: str, fingerprint: str) -> None:
    """The first time, a person compares; nobody else can."""
    if not _is_interactive():
        raise ResourceError(f"{url}: give its --fingerprint, which the agent prints when it starts")
    typer.echo(f"{url} shows the certificate\n  {fingerprint}\nIt must be the one that the agent prints.", err=True)
    typer.confirm("Is it?", abort=True, err=True)


def _token(file: Path | None) -> str:
    """Never from the arguments, which everybody on the machine can read."""
    if file is not None:
        try:
            return file.read_text().partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ResourceError(f"--token-file {file}: {error}") from error
    if _is_interactive():
        return str(typer.prompt("Token (vitsearch-agent token shows it)", hide_input=True, err=True)).strip()
    return sys.stdin.readline().strip()
