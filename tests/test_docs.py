"""The pages under docs/: code that stands there runs, files that they name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)|src=\"([^\":]+)\"")
PYTHON = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    named = [page.parent / (first or second) for first, second in LINK.findall(page.read_text())]
    assert [str(path) for path in named if not path.exists()] == []


def test_the_family_of_the_page_passes_its_own_conformance_test(tmp_path):
    for name, code in PYTHON.findall((REPOSITORY / "docs" / "add_a_family.md").read_text()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    (tmp_path / "conftest.py").write_text(
        "from vitsearch.backbones import FAMILIES\nFAMILIES.register('vit_relpos', 'my_families.relpos:RelPosFamily')\n"
    )  # what the entry point does for an installed package
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\npythonpath = . {REPOSITORY / 'search'} {REPOSITORY / 'evaluators'}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "tests"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
