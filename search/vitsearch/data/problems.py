"""The problems of a data set, collected and reported together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vitsearch.errors import DataError

_LISTED = 5
_LISTED_LINES = 20


class Problems:
    """Problems found at `where`; `raise_any` raises them as one `DataError`."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lines: list[str] = []
        self._advice: list[str] = []
        self._unreadable: dict[str, str] = {}

    def add(self, line: str) -> None:
        self._lines.append(line)

    def advise(self, line: str) -> None:
        """Add a way out, which follows the problems and is none itself."""
        self._advice.append(line)

    def add_unreadable(self, image: Path | str, why: str) -> None:
        """Add an image or a folder that cannot be read; only the first reason is kept."""
        self._unreadable.setdefault(str(image), why)

    def is_unreadable(self, image: Path | str) -> bool:
        return str(image) in self._unreadable

    def unreadable_below(self, folder: Path) -> set[str]:
        """The files in a folder that cannot be read, by their path below it without the ending."""
        paths = [Path(name) for name in self._unreadable if Path(name).is_relative_to(folder)]
        return {path.relative_to(folder).with_suffix("").as_posix() for path in paths}

    def __len__(self) -> int:
        return len(self._lines) + len(self._unreadable)

    def raise_any(self) -> None:
        """Raise `DataError` when there are problems."""
        problems = [*self._lines, *([self._describe_unreadable()] if self._unreadable else [])]
        if len(problems) == 1:
            raise DataError("\n  ".join([f"{self._where}: {problems[0]}", *self._advice]))
        if problems:
            listed = "\n".join("  " + line for problem in [*problems, *self._advice] for line in problem.splitlines())
            raise DataError(f"{self._where}: {len(problems)} problems\n{listed}")

    def _describe_unreadable(self) -> str:
        """The reasons, those of most images first, each once with the first images that have it."""
        by_reason: dict[str, list[str]] = {}
        for image, why in self._unreadable.items():
            by_reason.setdefault(why, []).append(image)
        count = len(self._unreadable)
        reasons = sorted(by_reason.items(), key=lambda entry: -len(entry[1]))
        shown, left = reasons[:_LISTED_LINES], sum(len(images) for _, images in reasons[_LISTED_LINES:])
        most = _LISTED_LINES // len(shown)
        lines = [line for why, images in shown for line in _of_one_reason(why, images, most)]
        rest = [f"and {left} more"] if left else []
        return "\n  ".join([f"{count} image{'s' if count > 1 else ''} cannot be used", *lines, *rest])


def _of_one_reason(why: str, images: list[str], most: int) -> list[str]:
    if len(images) <= min(_LISTED, most):
        return [f"{image}: {why}" for image in images]
    more = len(images) - most
    rest = [f"  and {more} more"] if more > 0 else []
    return [f"{why} ({len(images)}):", *(f"  {image}" for image in images[:most]), *rest]


def some(values: Iterable[str]) -> str:
    """The first five of `values` and the number of the others."""
    shown = list(values)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more
