"""The note in a folder of ours. What a command may delete depends on it: a folder without a note is somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

from vitsearch.storage.atomic_files import replacing

NOTE = "VITSEARCH.txt"
ABOUT = b"""Files of vitsearch studies; this note says that vitsearch may delete here what it has written.
The name of a file in a folder of two characters is the SHA-256 of its bytes, or of those of a model's files. The
results that name them are in a database: 'vitsearch studies clean' deletes files that no result names, and
'vitsearch studies delete' those of a study. Files with other names are left alone.
"""


def put_note(folder: Path) -> None:
    """Make a folder ours, whatever is in it; it is made where it is missing. Raises OSError when it cannot be
    written."""
    if not has_note(folder):
        with replacing(folder / NOTE) as note:
            note.write(ABOUT)


def adopt_new(folder: Path) -> None:
    """Make a folder ours if nobody has put anything into it, and no link leads to it. Raises OSError when it cannot be
    written."""
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_symlink() and is_empty(folder):
        put_note(folder)


def has_note(folder: Path) -> bool:
    """Whether a folder is ours."""
    return is_note(read_start(folder / NOTE))


def is_note(content: bytes) -> bool:
    return content.splitlines()[:1] == ABOUT.splitlines()[:1]


def read_start(path: Path) -> bytes:
    """As many bytes of a regular file as the note has; none of anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with open(handle, "rb") as stream:
        try:
            return stream.read(len(ABOUT))
        except OSError:
            return b""


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder, or it is not there."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return not os.path.lexists(folder)
