"""Loading of a space file: the result is a SearchSpace, or one SpaceError with all problems.

text --nodes--> tree --files: extends, overrides--> tree --sections--> SearchSpace --rules--> LoadedSpace
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from pydantic import ValidationError

from vitsearch.errors import SpaceError
from vitsearch.space.files import Found, override, read
from vitsearch.space.model import SearchSpace
from vitsearch.space.rules import find_problems, valid_parts
from vitsearch.space.source import Problem, Source, report_lines
from vitsearch.space.wording import problems_of


class LoadedSpace(NamedTuple):
    """A space, and the location of each of its values."""

    space: SearchSpace
    source: Source


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedSpace:
    """Read ``path`` and the files that it extends, apply ``KEY.PATH=VALUE`` overrides, and check everything.

    Raises one :class:`~vitsearch.errors.SpaceError` with every problem.
    """
    file = FilePath(path)
    found: Found = []
    tree = override(read(file, found), overrides, found)
    source = Source(str(file), tree.locations())
    raw = tree.plain()
    if raw.get("study") is None:
        raw["study"] = re.sub(r"[^a-z0-9_-]+", "_", file.stem.lower()).strip("_-")[:64] or "study"
    space, problems = _validated(raw)
    located = [source.located(problem) for problem in problems]
    if located or found:
        raise SpaceError(source.path, report_lines(source.path, [*found, *located]))
    assert space is not None  # without problems there is one
    return LoadedSpace(space, source)


def _validated(raw: dict[str, Any]) -> tuple[SearchSpace | None, list[Problem]]:
    space, problems = None, []
    try:
        space = SearchSpace.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error)
    return space, [*problems, *find_problems(valid_parts(raw))]
