"""The locations of the values of a space file, and how problems with them are reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vitsearch.errors import did_you_mean
from vitsearch.space.nodes import Location, Path

MISSING = "is missing"
_PLAIN = re.compile(r"[A-Za-z0-9_@-]+")


class Problem(NamedTuple):
    """A problem at a key path; the path `()` is the whole file."""

    path: Path
    message: str
    at: Path | None = None
    """The path whose location is reported, if not `path` (an unknown key is reported under its section)."""


@dataclass(frozen=True)
class SourceMap:
    """The name of the space file, and the location of every key and list item in it."""

    path: str
    locations: Mapping[Path, Location]

    def location(self, path: Path) -> Location:
        """The location of `path`, or of the nearest key around it."""
        while path and path not in self.locations:
            path = path[:-1]
        return self.locations.get(path, Location(self.path, 1))

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """One line for each problem, in the order of the file."""
        return report_lines(self.path, [self.located(problem) for problem in problems])

    def located(self, problem: Problem) -> tuple[Location, str]:
        """The location and the text of a problem."""
        path = problem.path
        while path and isinstance(path[-1], int) and path not in self.locations:
            path = path[:-1]
        location = self.location(path if problem.at is None else problem.at)
        if not path:
            return location, problem.message
        return location, f"{dotted(path)}{'' if problem.message.startswith(MISSING) else ':'} {problem.message}"


def report_lines(file: str, located: Iterable[tuple[Location, str]]) -> list[str]:
    """One line for each problem: `line 3: ...`, `base.yaml line 3: ...` in another file, `override: ...` last."""
    order = sorted(dict.fromkeys(located), key=lambda item: _rank(file, item[0]))
    return [f"{_where(file, location)}: {message}" for location, message in order]


def _rank(file: str, location: Location) -> tuple[bool, bool, int]:
    return location.is_override, location.file != file, location.line


def _where(file: str, location: Location) -> str:
    if location.is_override:
        return "override"
    return f"line {location.line}" if location.file == file else f"{location.file} line {location.line}"


def dotted(path: Path) -> str:
    """`("space", "resolution", 1)` -> `space.resolution[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN.fullmatch(part) else repr(part))
    return text


def nearest_or_all(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a similar name, or all allowed names when none is similar."""
    names = list(allowed)
    return did_you_mean(name, names) or f"; allowed: {', '.join(names)}"
