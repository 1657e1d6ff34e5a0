"""The name of a study. It is also the name of a folder, so what a database says is checked like what a person types."""

from __future__ import annotations

import re

from vitsearch.errors import StudyError

PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


def is_name(name: str) -> bool:
    return re.fullmatch(PATTERN, name) is not None and not name.endswith("\n")


def checked(name: str) -> str:
    """`name` as it is. Raises `StudyError` for what no space file can call a study."""
    if not is_name(name):
        raise StudyError(
            f"{name[:80]!r} is not the name of a study; allowed: up to 64 of a-z, 0-9, _ and -, not _ or - first"
        )
    return name


def suggested(text: str) -> str:
    """A name that is like `text`, such as the name of a file."""
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[:64] or "study"
