"""A reader sees the old file or the new one, whatever happens to the writer."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from support import PYTHON_PATH
from vitsearch.storage.atomic_files import PART, no_room, replacing


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "index.json"
    path.write_bytes(b"old")
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replaces_the_file_when_the_block_ends(file):
    with replacing(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert names_in(file.parent) == ["index.json"]


def test_creates_the_file_and_its_folder(tmp_path):
    with replacing(tmp_path / "a" / "b" / "file") as stream:
        stream.write(b"new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def write_then_fail(path):
    with replacing(path) as stream:
        stream.write(b"ne")
        raise KeyError


def test_an_error_in_the_block_keeps_the_old_file(file):
    with pytest.raises(KeyError):
        write_then_fail(file)
    assert file.read_bytes() == b"old"
    assert names_in(file.parent) == ["index.json"]


def write(path):
    with replacing(path) as stream:
        stream.write(b"new")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_keeps_the_old_file(file, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space"):
        write(file)
    assert file.read_bytes() == b"old"
    assert names_in(file.parent) == ["index.json"]


KILLED = """
import os, pathlib, signal, sys
from vitsearch.storage.atomic_files import replacing
with replacing(pathlib.Path(sys.argv[1])) as stream:
    stream.write(b"ne")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_keeps_the_old_file(file):
    command = [sys.executable, "-c", KILLED, str(file)]
    assert subprocess.run(command, env={"PYTHONPATH": PYTHON_PATH}).returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    (left,) = file.parent.glob(f"index-*{PART}")
    assert left.read_bytes() == b"ne"


@pytest.fixture
def umask():
    """umask(value): what this process takes away until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(
    ("mode", "taken", "left"),
    [(0o644, 0o022, 0o644), (0o600, 0o022, 0o600), (0o644, 0o000, 0o644), (0o644, 0o077, 0o600)],
)
def test_sets_the_mode_before_the_first_byte_within_the_umask(file, umask, mode, taken, left):
    umask(taken)
    with replacing(file, mode):
        (part,) = file.parent.glob(f"*{PART}")
        assert stat.S_IMODE(part.stat().st_mode) == left
    assert stat.S_IMODE(file.stat().st_mode) == left


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "x.db"), "Read-only file system: x.db"),
        (SafetensorError('IoError(Os { code: 28, message: "No space left on device" })'), "No space left on device"),
        (OSError(errno.ENOENT, "No such file or directory"), None),
        (KeyError("weights"), None),
    ],
)
def test_a_disk_that_takes_nothing_is_told_from_other_errors(error, reason):
    assert no_room(error) == reason
