"""What the commands and the log of a run print uses the field's words."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from support.words import forbidden_lines
from vitsearch.cli.app import app
from vitsearch.pipeline.progress import PlainLines
from vitsearch_evaluators.cli.app import parser


def commands() -> list[tuple[str, ...]]:
    root = get_command(app)
    names = []
    for name, command in root.commands.items():
        names += [(name, inner) for inner in getattr(command, "commands", {})] or [(name,)]
    return [(), *names]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_help_of_every_command_has_no_forbidden_word(command):
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert forbidden_lines(shown.output) == []


def test_the_help_of_the_agent_has_no_forbidden_word():
    root = parser()
    (commands_of_agent,) = [action for action in root._actions if action.choices and hasattr(action.choices, "values")]
    for shown in (root, *commands_of_agent.choices.values()):
        assert forbidden_lines(shown.format_help()) == []


def test_the_log_of_a_run_has_no_forbidden_word(fake_study):
    stream = io.StringIO()
    replace(fake_study, progress=PlainLines(tuple(fake_study.space.objectives), stream)).run()
    assert "trial" in stream.getvalue()
    assert forbidden_lines(stream.getvalue()) == []
