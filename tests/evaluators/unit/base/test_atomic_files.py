import contextlib
import json
import os
import subprocess
import sys

import pytest

from vitsearch_agent.base.atomic_files import replacing, replacing_path, write_bytes, write_json


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.json")


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def mode_of(path):
    return os.stat(path).st_mode & 0o777


def test_a_value_that_cannot_be_written_leaves_the_old_file(path, tmp_path):
    write_json(path, {"jobs": [1]})
    with pytest.raises(TypeError):
        write_json(path, {"jobs": [object()]})
    assert json.loads(read(path).decode()) == {"jobs": [1]}
    assert os.listdir(str(tmp_path)) == ["state.json"]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(path, tmp_path):
    write_bytes(path, b"old")
    with contextlib.suppress(OSError), replacing(path) as stream:
        stream.write(b"half")
        raise OSError("the disk is full")
    assert read(path) == b"old"
    assert os.listdir(str(tmp_path)) == ["state.json"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from vitsearch_agent.base.atomic_files import replacing
with replacing(sys.argv[1]) as stream:
    stream.write(b"half of it")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_the_old_file_is_whole_and_the_next_writer_cleans_up(path, tmp_path):
    write_bytes(path, b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, path])
    assert killed.returncode == -9
    assert read(path) == b"old"
    assert sorted(os.listdir(str(tmp_path))) == ["state.json", "state.json.part"]
    write_bytes(path, b"new")
    assert read(path) == b"new"
    assert os.listdir(str(tmp_path)) == ["state.json"]


def test_readers_see_the_old_content_until_the_block_ends(path):
    write_bytes(path, b"old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert read(path) == b"old"
    assert read(path) == b"new"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_mode_holds_from_the_start_and_under_any_umask(path, mode):
    before = os.umask(0o077)
    try:
        with replacing(path, mode):
            assert mode_of(path + ".part") == mode
    finally:
        os.umask(before)
    assert mode_of(path) == mode


def test_without_a_mode_the_umask_decides(path):
    before = os.umask(0o027)
    try:
        write_bytes(path, b"x")
    finally:
        os.umask(before)
    assert mode_of(path) == 0o640


def test_a_link_in_place_of_the_temporary_file_is_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.symlink(str(victim), path + ".part")
    write_bytes(path, b"new")
    assert victim.read_text() == "mine"
    assert read(path) == b"new"
    assert not os.path.islink(path)


@pytest.mark.parametrize("sync", [True, False])
def test_the_content_is_on_the_disk_before_the_file_is_in_place(path, sync, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    with replacing(path, sync=sync) as stream:
        stream.write(b"x")
    assert order == (["fsync", "replace"] if sync else ["replace"])


def test_another_name_for_the_temporary_file(path, tmp_path):
    (tmp_path / "state.json.part").write_text("of another writer")
    with replacing(path, part=path + ".1") as stream:
        stream.write(b"new")
    assert read(path) == b"new"
    assert (tmp_path / "state.json.part").read_text() == "of another writer"


def test_a_program_that_writes_to_the_path(path, tmp_path):
    with pytest.raises(FileNotFoundError), replacing_path(path):
        pass
    with replacing_path(path) as temporary, open(temporary, "w") as stream:
        stream.write("built")
    assert read(path) == b"built"
    assert os.listdir(str(tmp_path)) == ["state.json"]
