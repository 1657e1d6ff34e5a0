"""A bundle on disk is whole or not there, and equal bundles are equal bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from vitsearch.errors import StoreError
from vitsearch.ship import writing
from vitsearch.ship.writing import write

FILES = {"bundle.json": b"{}", "images/labels.npy": b"abc"}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_and_the_zip_have_every_file(tmp_path):
    archive = write("tiny", FILES, tmp_path / "out" / "here")
    assert contents(tmp_path / "out" / "here") == FILES
    with zipfile.ZipFile(archive) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {f"tiny/{k}": v for k, v in FILES.items()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"here", "here.zip"}


def test_a_second_bundle_has_the_same_bytes_wherever_it_is_written(tmp_path):
    one, other = (write("tiny", FILES, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert one == other


def test_a_bundle_replaces_an_earlier_one(tmp_path):
    write("tiny", FILES, tmp_path / "here")
    write("tiny", {"bundle.json": b"new"}, tmp_path / "here")
    assert contents(tmp_path / "here") == {"bundle.json": b"new"}


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="exists and is not a bundle: name another folder with --to"):
        write("tiny", FILES, tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.parametrize("fails", ["_write_folder", "_write_zip"])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, fails):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, fails, full)
    with pytest.raises(StoreError, match="cannot be written to .*: No space left on device"):
        write("tiny", FILES, tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_write_left_is_replaced(tmp_path):
    (tmp_path / ".here.part").mkdir()
    (tmp_path / ".here.part" / "old").write_text("old")
    (tmp_path / ".here.zip.part").write_text("old")
    write("tiny", FILES, tmp_path / "here")
    assert sorted(os.listdir(tmp_path)) == ["here", "here.zip"]


KILLED = """
import os, sys
from pathlib import Path
from vitsearch.ship import writing

left = int(sys.argv[2])

def killing(work):
    def killed(*arguments, **named):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return work(*arguments, **named)
    return killed

os.fsync, os.replace, os.rename = killing(os.fsync), killing(os.replace), killing(os.rename)
writing.write("tiny", {"bundle.json": b"new", "model.onnx": b"model"}, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("step", range(6))
def test_a_killed_write_leaves_no_bundle_or_a_whole_one(tmp_path, step):
    """Killed before each file is on the disk, before each renaming, and (at the last step) not at all."""
    write("tiny", {"bundle.json": b"old", "model.onnx": b"old"}, tmp_path / "here")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "here"), str(step)]
    assert subprocess.run(command, env=environment).returncode == (9 if step < 5 else 0)
    whole = [{"bundle.json": b"old", "model.onnx": b"old"}, {"bundle.json": b"new", "model.onnx": b"model"}]
    assert not (tmp_path / "here").exists() or contents(tmp_path / "here") in whole
    with zipfile.ZipFile(tmp_path / "here.zip") as archive:
        assert archive.testzip() is None
