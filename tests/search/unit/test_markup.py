"""Docstrings and comments are Markdown, which the documentation site renders; reStructuredText would stay as it is."""

from __future__ import annotations

import re
from pathlib import Path

from support import REPOSITORY

FOLDERS = ("search", "evaluators", "tests", "benchmarks", "tools")
RESTRUCTURED = re.compile(r":[a-z]+:`\w|(?<!`)``(?!`)|^\s+(\.\. [a-z]+::|:(param|returns?|raises)\b)", re.MULTILINE)


def test_docstrings_have_one_markup():
    pages = [page for folder in FOLDERS for page in Path(REPOSITORY, folder).rglob("*.py") if page != Path(__file__)]
    wrong = {str(page): RESTRUCTURED.findall(page.read_text()) for page in pages}
    assert {page: markup for page, markup in wrong.items() if markup} == {}
