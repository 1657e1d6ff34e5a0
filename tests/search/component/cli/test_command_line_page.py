"""docs/command_line.md: its expressions can be read, its commands exist, its exit codes are those of the errors."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from support import REPOSITORY
from vitsearch import errors
from vitsearch.cli.app import app
from vitsearch.study.results.expression import parse
from vitsearch.study.results.selection import names_of

PAGE = Path(REPOSITORY, "docs", "command_line.md").read_text()


def subclasses(kind: type) -> set[type]:
    return {kind for child in kind.__subclasses__() for kind in (child, *subclasses(child))}


def test_every_error_has_its_exit_code_in_the_table():
    listed = {name: int(code) for name, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)}
    ours = {kind for kind in subclasses(errors.VitsearchError) if kind.__module__ == errors.__name__}
    assert listed == {kind.__name__: kind.exit_code for kind in ours}


def test_the_expressions_of_the_page_can_be_read():
    (block,) = re.findall(r"```\n(accuracy > .*?)```", PAGE, re.DOTALL)
    for line in block.strip().splitlines():
        assert parse(line, names_of(["accuracy", "cpu_ms_p50"])) is not None


@pytest.mark.parametrize("line", sorted(set(re.findall(r"`(vitsearch [a-z]+ ?[^`]*)`", PAGE))))
def test_every_command_of_the_page_is_understood(line):
    """With --help at its end a command checks its own name and options, and nothing else."""
    done = CliRunner().invoke(app, [*shlex.split(line)[1:], "--help"])
    assert done.exit_code == 0, done.output


def test_names_of_studies_are_completed(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    for name in ("quick.db", "quiet.db", "parts.db", "quick.files"):
        (tmp_path / "studies" / name).touch()
    monkeypatch.chdir(tmp_path)
    words = {"_VITSEARCH_COMPLETE": "complete_bash", "COMP_WORDS": "vitsearch front qui", "COMP_CWORD": "2"}
    done = CliRunner().invoke(app, [], prog_name="vitsearch", env=words)
    assert done.output.split() == ["quick", "quiet"]


def test_completion_can_be_installed():
    options = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    assert {"--install-completion", "--show-completion"} <= options
