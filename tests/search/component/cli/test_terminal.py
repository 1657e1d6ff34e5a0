"""No text from outside can send a control character to the terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import OperationalError

from vitsearch.cli import app
from vitsearch.cli.terminal import Terminal, plain, say
from vitsearch.errors import DeviceLost

HOSTILE = "evil\x1b[2J\x9b31m\u202e"
VISIBLE = "evil\\x1b[2J\\x9b31m\\u202e"


def printed(what) -> str:
    console = Terminal(file=io.StringIO(), width=80, color_system=None)
    console.print(what, markup=False)
    return console.file.getvalue()


@pytest.mark.parametrize("what", [HOSTILE, Text(HOSTILE), plain(HOSTILE)], ids=["str", "text", "plain"])
def test_whatever_is_printed_is_visible(what):
    assert VISIBLE in printed(what)


def test_cells_cannot_send_a_control_character():
    table = Table("name", box=None)
    table.add_row(HOSTILE)
    table.add_row(plain(HOSTILE))
    shown = printed(table)
    assert VISIBLE in shown
    assert shown.replace("\n", "").isprintable()


def test_a_pipe_gets_prose_as_it_is(capsys):
    say("word " * 40 + HOSTILE)
    assert capsys.readouterr().out == "word " * 40 + VISIBLE + "\n"


def test_lines_colours_and_frames_are_as_before():
    console = Terminal(file=io.StringIO(), width=30, force_terminal=True, color_system="standard")
    console.print(Table("a", "b"), Text("red", style="red"))
    console.print("two\nlines")
    shown = console.file.getvalue()
    assert "\x1b[31mred\x1b[0m" in shown
    assert shown.endswith("two\nlines\n")
    assert "┃" in shown


def test_an_error_of_a_command_is_visible(monkeypatch, capsys):
    def refuse() -> None:
        raise DeviceLost(f"device nano: {HOSTILE}\nsecond line")

    monkeypatch.setattr(app, "app", refuse)
    with pytest.raises(SystemExit):
        app.main()
    assert capsys.readouterr().err == f"device nano: {VISIBLE}\nsecond line\n"


def test_a_database_that_goes_away_is_one_line_without_sql(monkeypatch, capsys):
    def fail() -> None:
        driver = Exception("server closed the connection\n\tThis probably means more")
        error = OperationalError("SELECT secrets FROM vs_artifact", {}, driver, connection_invalidated=True)
        error.add_note("database postgresql+psycopg://me:***@db.local/vit")
        raise error

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    said = "database postgresql+psycopg://me:***@db.local/vit was lost (server closed the connection); "
    assert capsys.readouterr().err == f"{said}the same command resumes\n"
