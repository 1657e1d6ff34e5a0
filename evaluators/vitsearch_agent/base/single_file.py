"""The agent as one file that any Python from 3.6 on runs: `python3 vitsearch-agent.pyz serve ...`.

The same sources give the same bytes: order, times and permissions are fixed, and nothing is compiled.
"""

import io
import os
import zipfile
from typing import Iterator

from vitsearch_agent.base.atomic_files import write_bytes
from vitsearch_agent.base.plain_files import require_replaceable

NAME = "vitsearch-agent.pyz"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SHEBANG = b"#!/usr/bin/env python3\n"
# The __main__ that zipapp writes would lose the exit code.
_MAIN = b"import sys\n\nfrom vitsearch_agent.cli.app import main\n\nsys.exit(main())\n"
_WHEN = (2020, 1, 1, 0, 0, 0)


def single_file() -> bytes:
    """Return the sources of this package as an executable archive."""
    stream = io.BytesIO(_SHEBANG)
    stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN)
        for path in sorted(_sources()):
            with open(path, "rb") as source:
                name = os.path.relpath(path, os.path.dirname(_PACKAGE)).replace(os.sep, "/")
                _add(archive, name, source.read())
    return stream.getvalue()


def write(path: str) -> None:
    """Write the archive to a file that may be executed. Raises OSError where it cannot be written."""
    require_replaceable(path)
    write_bytes(path, single_file(), mode=0o755)


def _sources() -> Iterator[str]:
    for folder, _, names in os.walk(_PACKAGE):
        for name in names:
            if name.endswith(".py"):
                yield os.path.join(folder, name)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, also where Windows writes it
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)
