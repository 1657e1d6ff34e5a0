"""The rooms stay small: a root reads as a table of contents, and no folder is a long list of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import REPOSITORY

PACKAGES = [Path(REPOSITORY, "search", "vitsearch"), Path(REPOSITORY, "evaluators", "vitsearch_evaluators")]
ROOT_MAX, FOLDER_MAX = 6, 15


def modules(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_root_of_a_package_has_few_modules(package):
    assert len(modules(package)) <= ROOT_MAX


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_folder_beside_the_backbones_is_long(package):
    folders = [path for path in package.rglob("*") if path.is_dir() and path.name != "backbones"]
    assert {path.name: modules(path) for path in folders if len(modules(path)) > FOLDER_MAX} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_room_says_what_happens_there(package):
    rooms = {path.parent for path in package.rglob("*.py")}
    assert [room.name for room in rooms if not (room / "__init__.py").read_text().startswith('"""')] == []
