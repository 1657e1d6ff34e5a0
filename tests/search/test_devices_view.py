"""What others wrote is shown as it stands."""

from __future__ import annotations

import io

from rich.console import Console

from vitsearch import devices_view


def test_what_a_device_says_is_no_markup_and_no_escape():
    board = "Rev [/b] [bold]x \x1b[2J"
    row = {"name": "nano", "url": "http://nano:1", "reachable": True, "reason": "[/dim] gone", "kind": "physical"}
    row |= {"board": board, "queued": 1, "running": 0, "quarantined": None}
    console = Console(file=io.StringIO(), width=200)
    devices_view.print_overview([row], console)
    shown = console.file.getvalue()
    assert "Rev [/b] [bold]x \N{REPLACEMENT CHARACTER}[2J" in shown
    assert "[/dim] gone" in shown
