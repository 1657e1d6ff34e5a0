"""Sources, tests and pages use the field's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import REPOSITORY
from support.words import forbidden_lines

FOLDERS = ("search", "evaluators", "tests", "docs", "spaces", "studies", "benchmarks", "tools")
SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml", ".json", ".svg", ".service", ".sh")
ROOT = [path for path in Path(REPOSITORY).iterdir() if path.suffix in SUFFIXES or path.name == "Makefile"]


@pytest.mark.parametrize("folder", [*FOLDERS, "."])
def test_no_text_has_a_forbidden_word(folder):
    files = ROOT if folder == "." else [path for path in Path(REPOSITORY, folder).rglob("*") if path.suffix in SUFFIXES]
    assert files
    found = {
        str(path.relative_to(REPOSITORY)): lines
        for path in files
        if path.name != "words.py" and (lines := forbidden_lines(path.read_text(encoding="utf-8")))
    }
    assert found == {}
