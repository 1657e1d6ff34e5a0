"""Names of files in a bundle: the same file on every system, and below the bundle's folder."""

import unicodedata
from typing import Iterable, Iterator, Optional

_NOT_IN_NAMES = "\\:"
_LONGEST, _LONGEST_PATH, _DEEPEST = 255, 1024, 16


def problem_of(name: str) -> Optional[str]:
    """Return why a name, with / between its parts, is not allowed in a bundle; None if it is."""
    if name.startswith("/"):
        return "an absolute path"
    if not name.isprintable() or any(character in name for character in _NOT_IN_NAMES):
        return "a name with control characters, \\ or :"
    if len(name) > _LONGEST_PATH or name.count("/") > _DEEPEST:
        return "a path that is too long"
    parts = name.split("/")
    if ".." in parts:
        return "a path with .."
    if any(part in ("", ".") or part[-1] in " ." or len(part.encode("utf-8", "replace")) > _LONGEST for part in parts):
        return "not a plain relative path"
    return None


def twice(names: Iterable[str]) -> Iterator[str]:
    """Yield each name that another one before it equals, also where a file system takes no account of case or of
    combined characters."""
    seen = set()
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            yield name
        seen.add(key)
