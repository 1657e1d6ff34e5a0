"""A small disk, which a test can fill."""

import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, megabytes=16):
    """A disk of its own at a new folder; the test is skipped where none can be mounted, which root can."""
    folder.mkdir()
    size = f"size={megabytes}m"
    if os.geteuid() or subprocess.call(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)]):
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.check_call(["umount", "-l", str(folder)])


def fill(disk):
    with (disk / "ballast").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
