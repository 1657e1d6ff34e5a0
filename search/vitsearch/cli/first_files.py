"""The commands that write a first file: `init` a space file, `agent-pyz` the agent for a board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vitsearch.errors import StoreError
from vitsearch_agent.base.printable import printable_lines


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The space file to write.")] = Path("space.yaml"),
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Your images: CLASS/*.jpg, or images/*.jpg with masks/*.png; in train/ too.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="BOARD", help="A name of --list; default: here.", show_default=False)
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="latency, energy or size: minimized beside accuracy; default: latency.",
            show_default=False,
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write a file that comes with vitsearch as it is, such as quickstart, which needs no data.",
            show_default=False,
        ),
    ] = None,
    list_boards: Annotated[bool, typer.Option("--list", help="List the boards and the examples.")] = False,
) -> None:
    """Write a space file for your images and your board.

    Asks on a terminal for what is missing. Reads the data. Never overwrites a file.
    """
    from vitsearch.search.first_space import BOARDS, GOALS, HERE, write, write_example
    from vitsearch.space import shipped_spaces

    if list_boards:
        width = max(map(len, BOARDS))
        typer.echo("\n".join(f"{name:{width}}  {board.about}" for name, board in BOARDS.items()))
        typer.echo(f"--example: {', '.join(shipped_spaces.names())}")
        return
    if example is not None:
        write_example(file, example)
        typer.echo(printable_lines(f"{file}: next: vitsearch run {file}"))
        return
    if sys.stdin.isatty():
        data = data or typer.prompt("Folder of your images")
        device = device or typer.prompt(f"Board ({', '.join(BOARDS)})", default=HERE)
        goal = goal or typer.prompt(f"Goal beside accuracy ({', '.join(GOALS)})", default=GOALS[0])
    if data is None:
        raise typer.BadParameter("name the folder of your images: --data FOLDER")
    written = write(file, device or HERE, data, goal or GOALS[0])
    typer.echo(printable_lines(written.describe()))


def agent_pyz(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("vitsearch-agent.pyz"),
) -> None:
    """Write the agent for a board as one file.

    The board needs Python 3.6 or newer, and a runtime such as onnxruntime.
    """
    from vitsearch_agent.base import single_file

    try:
        single_file.write(str(file))
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}") from error
    typer.echo(f"{file}: copy it to the board and run there: sudo python3 {file.name} install --host 0.0.0.0")
