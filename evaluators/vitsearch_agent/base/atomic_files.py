"""Files that are replaced in one step: a reader, and a restart after a crash, finds the old file or the new one.

The new content goes to a temporary file beside the target (`PATH.part`), which is then renamed. If the writing
fails, the temporary file is removed. If the process is killed, it stays and the next writer removes it. There is
one writer at a time for each temporary file.
"""

import contextlib
import json
import os
from typing import Any, BinaryIO, Iterator, Optional


def write_json(path: str, value: Any) -> None:
    """Replace the file at `path` by `value` as JSON; it is on the disk when this returns."""
    write_bytes(path, json.dumps(value).encode("ascii"))


def write_bytes(path: str, content: bytes, mode: Optional[int] = None) -> None:
    """Replace the file at `path` by `content`; it is on the disk when this returns. `mode` as in `replacing`."""
    with replacing(path, mode) as stream:
        stream.write(content)


@contextlib.contextmanager
def replacing(
    path: str, mode: Optional[int] = None, part: Optional[str] = None, sync: bool = True
) -> Iterator[BinaryIO]:
    """Yield a stream whose content replaces the file at `path` when the block ends without an error.

    `mode` sets the permissions, whatever the umask (None: as `open` would). Nobody can open the temporary file
    with wider permissions, nor have it written through a link that was there before. `part` is another name for
    the temporary file, for several processes that may write `path` at the same time. `sync` False saves the wait
    for the disk where a crash may lose the content.
    """
    with replacing_path(path, part) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with open(descriptor, "wb") as stream:
            if mode is not None:
                os.fchmod(descriptor, mode)
            yield stream
            stream.flush()
            if sync:
                os.fsync(descriptor)


@contextlib.contextmanager
def replacing_path(path: str, part: Optional[str] = None) -> Iterator[str]:
    """Yield the path of the temporary file, for what another program writes; as `replacing`, but never waits."""
    temporary = path + ".part" if part is None else part
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
