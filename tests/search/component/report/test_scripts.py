"""`tools/lint_scripts.py`: problems of the report's scripts, by the script and the line in which they are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from support import REPOSITORY

BIOME = Path(sys.executable).with_name("biome")

pytestmark = pytest.mark.skipif(not BIOME.exists(), reason="Biome is not installed: make setup")


@pytest.fixture(scope="module")
def lint():
    spec = importlib.util.spec_from_file_location("lint_scripts", Path(REPOSITORY, "tools", "lint_scripts.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda scripts: list(module.problems(scripts, str(BIOME)))


def test_a_script_uses_what_one_before_it_declares(lint):
    assert lint({"first.js": "const unit = 1;\n", "second.js": "document.title = `${unit}`;"}) == []


def test_a_name_that_no_script_declares_is_found(lint):
    (problem,) = lint({"first.js": "const unit = 1;\n", "second.js": "\ndocument.title = `${unit} ${units}`;\n"})
    assert problem.startswith("second.js:2: ")
    assert "units" in problem


def test_what_no_script_uses_is_found(lint):
    (problem,) = lint({"first.js": "function bars() {\n  return [];\n}\n", "second.js": "document.title = '';\n"})
    assert problem.startswith("first.js:1: ")
