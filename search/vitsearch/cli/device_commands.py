"""`vitsearch devices`: the devices that this user has added, their properties and their queues.

HTTP client and tables are imported inside the commands, so that `vitsearch --help` loads neither.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vitsearch.errors import ResourceError
from vitsearch_agent.runtime_facts import DEFAULT_RUNTIME

app = typer.Typer(help="Add, list and inspect devices, and manage their queues.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As 'vitsearch devices list' shows it.", show_default=False)]


@app.command("list")
def list_devices(as_json: AsJson = False) -> None:
    """List all known devices, and whether they answer."""
    from vitsearch.cli import device_tables

    rows = device_tables.overview(_book().devices())
    _print(rows) if as_json else device_tables.print_overview(rows)


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://nano.local:8470", show_default=False)],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Default: taken from the host name.", show_default=False)
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(help="Fingerprint of the certificate, which the agent prints; default: ask."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token; default: ask for it, or read it from a pipe.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a device: its address, certificate and token.

    A device of that name is replaced.
    """
    from vitsearch.cli import device_tables
    from vitsearch.devices import pairing

    book = _book()
    request = pairing.PairingRequest(url, name or pairing.name_from(url), fingerprint)
    pinned = pairing.pin(request, book, _confirm)
    paired = pairing.verified(request, pinned, _token(token_file))
    book.put(request.name, paired.device)
    if as_json:
        _print(device_tables.row(request.name, paired.device, paired.info))
    else:
        description = device_tables.describe(paired.info)
        typer.echo(f"{request.name} is {description}; to use it in a space file: devices: [{request.name}]")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Remove a device and its token."""
    book = _book()
    book.remove(name)
    if as_json:
        from vitsearch.cli.printed import PrintedRemoval

        _print(PrintedRemoval(name))
        return
    typer.echo(f"{name} was removed.")


@app.command()
def status(name: Name, as_json: AsJson = False) -> None:
    """Show a device's state, runtimes, meters and queue.

    Temperature, clocks and other state, its runtimes and meters, and the jobs in its queue with their owners.
    """
    from vitsearch.cli import device_tables

    device_status = device_tables.status(name, _book().get(name))
    _print(device_status) if as_json else device_tables.print_status(device_status)


@app.command()
def describe(name: Name) -> None:
    """Print what a device's agent reports, as JSON.

    With the file, 'vitsearch check SPACE --as FILE' judges a space while the device is away or somebody else's.
    """
    from vitsearch.cli import device_tables

    _print(device_tables.description(name, _book().get(name)).to_json())


@app.command()
def peaks(
    name: Name,
    runtime: Annotated[str, typer.Option(help="Runtime of the device to measure.")] = DEFAULT_RUNTIME,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Measure with 1 thread and with this many; default: all processors.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the peaks of a device for a roofline.

    Matrix products in each precision, and memory copies.

    This takes about half a minute on a small device. The result is kept: a device measures again only after its
    hardware, software or settings changed.
    """
    from vitsearch.cli import device_tables

    rates = device_tables.peaks(name, _book().get(name), runtime, threads)
    _print(rates) if as_json else device_tables.print_peaks(rates)


@app.command()
def accept(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As the space file names it.", show_default=False)],
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Name, space file, .db file or storage URL.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Accept a device with a new id as the one that measured for a study.

    A device has a new id when its agent was installed again, or runs in a new container. Its hardware must be the same.
    """
    # optuna and sqlalchemy: only for those who open a study
    from vitsearch.search.admin.device_acceptance import accept as accept_device
    from vitsearch_agent.base.printable import printable

    acceptance = accept_device(study, name, lambda text: typer.echo(printable(text), err=True))
    if as_json:
        from vitsearch.cli.printed import PrintedAcceptance

        before = None if acceptance.before is None else acceptance.before.describe(name)
        _print(PrintedAcceptance(acceptance.study, acceptance.name, before, acceptance.now.describe(name)))
        return
    verdict = "is known already" if acceptance.before is None else f"is the same as {acceptance.before.describe(name)}"
    typer.echo(printable(f"study {acceptance.study}: {acceptance.now.describe(name)} {verdict}"))


@app.command()
def cancel(
    name: Name,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Beginning of the job's id.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Cancel a waiting or running job of any owner."""
    from vitsearch.cli import device_tables
    from vitsearch_agent.base.printable import printable

    cancelled = device_tables.cancel(name, _book().get(name), job)
    _print(cancelled) if as_json else typer.echo(
        printable(f"{cancelled.id[:12]} of {cancelled.study}: {cancelled.state}")
    )


def _book() -> Any:
    from vitsearch.devices.registry import DeviceBook

    return DeviceBook.of_user(os.environ)


def _print(value: object) -> None:
    from vitsearch.core.json_value import json_text

    typer.echo(json_text(value))


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _confirm(url: str, fingerprint: str) -> None:
    """Ask the user to compare the certificate, the first time that the device is added."""
    if not _is_interactive():
        raise ResourceError(f"{url}: --fingerprint is required without a terminal; the agent prints it at its start")
    typer.echo(f"{url} has the certificate\n  {fingerprint}\nThe agent must print the same fingerprint.", err=True)
    typer.confirm("Does it?", abort=True, err=True)


def _token(file: Path | None) -> str:
    """Read the token from a file, a prompt or a pipe, but never from an argument: every user can read those."""
    if file is not None:
        try:
            return file.read_text().partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ResourceError(f"--token-file {file}: {error}") from error
    if _is_interactive():
        return str(
            typer.prompt("Token ('vitsearch-agent token' on the device prints it)", hide_input=True, err=True)
        ).strip()
    return sys.stdin.readline().strip()
