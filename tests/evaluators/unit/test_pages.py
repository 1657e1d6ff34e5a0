"""The commands in the agent's pages are valid command lines."""

import argparse
import pathlib
import re
import shlex

import pytest

from support import AGENT_HOME, REPOSITORY
from vitsearch_agent.cli.parser import add_verify_options, parser

PAGES = sorted(pathlib.Path(AGENT_HOME).glob("*.md"))
FIRST_BOARD = pathlib.Path(REPOSITORY, "docs", "first_board.md")
COMMANDS = "serve|token|power|measure|install|uninstall|selftest"
COMMAND = re.compile(rf"(?:\S*/)?vitsearch-agent(?:\.pyz)?\s+(?={COMMANDS})([^`|\n]+)")


def commands(page):
    """Yield the arguments after the program's name, whatever comes before it (sudo, ssh, python3)."""
    for block in re.findall(r"```\w*\n(.*?)```|`([^`]+)`", page.read_text(), re.DOTALL):
        for line in COMMAND.findall("".join(block)):
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", [*PAGES, FIRST_BOARD], ids=lambda page: page.name)
def test_commands_parse(page, capsys):
    refused = []
    for words in commands(page):
        try:
            parser().parse_args(words)
        except SystemExit:
            refused.append((words, capsys.readouterr().err))
    assert refused == []


def test_each_section_of_install_md_begins_with_the_install_command():
    text = next(page for page in PAGES if page.name == "INSTALL.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 7
    for section in sections:
        first_block = re.search(r"```\n(.*?)```", section, re.DOTALL).group(1)
        assert re.search(r"vitsearch-agent.pyz install\b", first_block), section.splitlines()[0]


def test_the_page_on_bundles_names_every_option_of_verify():
    command = argparse.ArgumentParser(add_help=False)
    add_verify_options(command)
    options = set(re.findall(r"^  (--[a-z-]+)", command.format_help(), re.MULTILINE))
    assert "--cpus" in options
    page = pathlib.Path(REPOSITORY, "docs", "ship.md").read_text()
    named = re.findall(r"^\| `(--[a-z-]+)", page[page.index("## 4. Verify it") :], re.MULTILINE)
    assert options - set(named) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_commands(page):
    assert len(list(commands(page))) >= 5
