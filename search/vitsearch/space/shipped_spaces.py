"""The space files that come with vitsearch: `spaces/` of the repository, which the wheel has inside the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vitsearch.errors import UnknownName

_PACKAGE = Path(__file__).parents[1]


def names() -> list[str]:
    """The names of the files, without `.yaml`, sorted."""
    return sorted(path.stem for path in _files())


def text(name: str) -> str:
    """The content of one. Raises `UnknownName` with the nearest name."""
    for path in _files():
        if path.stem == name:
            return path.read_text()
    raise UnknownName("space file", name, names())


def _files() -> Iterator[Path]:
    """Of the package, and where that was installed in editable mode of the repository."""
    inside = _PACKAGE / "spaces"
    yield from (inside if inside.is_dir() else _PACKAGE.parents[1] / "spaces").glob("*.yaml")
