"""The repository uses the field's words: none of ours that readers did not understand comes back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support import REPOSITORY

FORBIDDEN = re.compile(
    r"\b(foretold|foretell\w*|foreseen|hoped|hopeless|promised (no|more)|in quiet|errands?|enrol\w*|twins?|"
    r"passed over|let go|taught)\b",
    re.IGNORECASE,
)
SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml", ".json", ".svg", ".service", ".sh", ".txt")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [Path(REPOSITORY, name) for name in listed.stdout.splitlines()]


def test_no_text_of_the_repository_has_a_forbidden_word():
    files = [path for path in tracked() if path.suffix in SUFFIXES or path.name == "Makefile"]
    if not files:
        pytest.skip("not a git checkout")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}"
        for path in files
        if path.exists() and path.name != "test_words.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line.replace("_", " "))
    ]
    assert found == []
