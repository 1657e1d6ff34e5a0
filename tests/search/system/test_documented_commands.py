"""Every command line that a page shows is one that the programs accept."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from support import REPOSITORY
from vitsearch.cli.app import app
from vitsearch_agent.cli import parser as agent_app

ROOT = Path(REPOSITORY)
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "evaluators").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "examples" / "README.md",
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(vitsearch(?:-agent)? [^`]+)`")
SHELL = {"|", ">", "&&", ";", "#", "2>&1", "&"}
COMMANDS = typer.main.get_group(app)


def in_blocks(page: Path) -> Iterator[str]:
    """The lines of the blocks in which a page shows what to type; those of `text` are what is printed."""
    for language, block in BLOCK.findall(page.read_text()):
        if language == "text":
            continue
        yield from block.replace("\\\n", " ").splitlines()


def in_sentences(page: Path) -> Iterator[str]:
    yield from INLINE.findall(page.read_text())


def commands_of(lines: Iterable[str]) -> list[list[str]]:
    """The words of each command line, without what belongs to the shell. A line with `...` is no whole command."""
    found = []
    for line in lines:
        line = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
        if not line.startswith(("vitsearch ", "vitsearch-agent ")) or "..." in line:
            continue
        words = shlex.split(line, comments=True)
        end = next((at for at, word in enumerate(words) if word in SHELL), len(words))
        found.append(words[:end])
    return found


def with_commands(lines_of: Callable[[Path], Iterable[str]]) -> list[Path]:
    return [page for page in PAGES if commands_of(lines_of(page))]


@pytest.mark.parametrize("page", with_commands(in_blocks), ids=lambda page: page.name)
def test_the_programs_accept_the_commands_of_a_page(page):
    for program, *words in commands_of(in_blocks(page)):
        if program == "vitsearch-agent":
            assert agent_app.parser().parse_args(words) is not None
            continue
        name, command, rest = found(words)
        assert command.make_context(name, list(rest)).command is command


@pytest.mark.parametrize("page", with_commands(in_sentences), ids=lambda page: page.name)
def test_the_programs_have_the_commands_that_a_sentence_names(page):
    """A sentence may leave out the arguments."""
    for program, *words in commands_of(in_sentences(page)):
        if program == "vitsearch" and not words[0].startswith("-"):
            _, command, rest = found(words)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in rest if word.startswith("--")} - known - {"--help"} == set()


def found(words: list[str]) -> tuple[str, Any, list[str]]:
    """The command that the first words name, and the rest."""
    group, name = COMMANDS, "vitsearch"
    while hasattr(group, "commands") and words:
        name, *words = words
        assert name in group.commands, f"vitsearch has no command {name!r}"
        group = group.commands[name]
    return name, group, words
