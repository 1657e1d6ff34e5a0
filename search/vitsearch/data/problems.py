"""What is wrong with a data set: everything at once, each thing said once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vitsearch.errors import DataError

_LISTED = 5
_LISTED_FILES = 20


class Defects:
    """Collects what is found in ``where``; :meth:`refuse` raises it as one :class:`DataError`."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lines: list[str] = []
        self._broken: dict[str, str] = {}

    def add(self, line: str) -> None:
        self._lines.append(line)

    def broken(self, image: Path | str, why: str) -> None:
        """An image that cannot be read."""
        self._broken.setdefault(str(image), why)

    def has(self, image: Path | str) -> bool:
        return str(image) in self._broken

    def __len__(self) -> int:
        return len(self._lines) + len(self._broken)

    def refuse(self) -> None:
        """Raise what was collected, if anything was."""
        problems = [*self._lines, *([self._about_broken()] if self._broken else [])]
        if len(problems) == 1:
            raise DataError(f"{self._where}: {problems[0]}")
        if problems:
            listed = "\n".join("  " + line for problem in problems for line in problem.splitlines())
            raise DataError(f"{self._where}: {len(problems)} problems\n{listed}")

    def _about_broken(self) -> str:
        count = len(self._broken)
        lines = [f"  {image}: {why}" for image, why in list(self._broken.items())[:_LISTED_FILES]]
        lines += [f"  and {count - _LISTED_FILES} more"] if count > _LISTED_FILES else []
        return "\n".join([f"{count} image{'s' if count > 1 else ''} cannot be read", *lines])


def some(values: Iterable[str]) -> str:
    """Up to five of ``values``, and how many more there are."""
    shown = list(values)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more
