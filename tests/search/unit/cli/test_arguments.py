"""Commands that a person may copy."""

from __future__ import annotations

import sys

from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.cli.arguments import command_text, same_command

SECRET = "postgresql+psycopg://me:secret@db/vit#parts"
SHOWN = "postgresql+psycopg://me:***@db/vit#parts"


def test_a_command_is_quoted_for_a_shell():
    text = command_text("front", "studies/my study.db", "--device", "local+threads2")
    assert text == "vitsearch front 'studies/my study.db' --device local+threads2"


def test_a_command_is_one_visible_line():
    assert command_text("front", "a\nb.db") == "vitsearch front 'a\\nb.db'"


def test_a_command_has_no_password(monkeypatch):
    assert command_text("front", SECRET) == f"vitsearch front '{SHOWN}'"
    monkeypatch.setattr(sys, "argv", ["vitsearch", "run", "space.yaml", "storage=" + SECRET, "--plain"])
    assert same_command() == f"vitsearch run space.yaml 'storage={SHOWN}' --plain"


def test_the_usage_of_ship_has_no_password():
    done = CliRunner().invoke(app, ["ship", SECRET])
    assert done.exit_code == 2
    assert "secret" not in done.output
    assert f"vitsearch ship '{SHOWN}' knee" in " ".join(done.output.split())
