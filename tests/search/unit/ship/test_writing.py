"""A bundle on disk is whole or not there, and equal bundles are equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from support.marks import long
from vitsearch.errors import BundleError, StoreError
from vitsearch.ship import writing
from vitsearch.ship.writing import write


def files_of(name: str, model: bytes = b"model") -> dict[str, bytes]:
    """The files of a bundle as far as writing reads them."""
    files = {"bundle.json": json.dumps({"name": name}).encode(), "images/labels.npy": b"abc", "model.onnx": model}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {file}\n" for file, content in files.items()]
    return files | {"SHA256SUMS": "".join(lines).encode()}


FILES = files_of("tiny")
NEWER = files_of("tiny", b"newer")


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
    (tmp_path / "here" / "__pycache__").mkdir()
    (tmp_path / "here" / "__pycache__" / "preprocessing.pyc").write_bytes(b"")
    write("tiny", NEWER, tmp_path / "here")
    assert contents(tmp_path / "here") == NEWER


def test_a_link_to_a_folder_can_be_written_to_more_than_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    for files in (FILES, NEWER):
        write("tiny", files, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.zip", "real"]
    assert contents(tmp_path / "out") == NEWER


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "here").mkdir()
    write("tiny", FILES, tmp_path / "here")
    assert contents(tmp_path / "here") == FILES


def refused(folder, message):
    """That a bundle is not written to a folder, and that nothing beside or in it has changed."""
    before = contents(folder.parent)
    with pytest.raises(BundleError) as raised:
        write("tiny", NEWER, folder)
    assert str(raised.value) == message
    assert raised.value.exit_code == 2
    assert contents(folder.parent) == before


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("mine")
    refused(tmp_path / "here", f"{tmp_path / 'here'} exists and is not a bundle: name another folder with --to")


@pytest.mark.parametrize("asked", [".", ".."])
def test_the_folder_of_the_process_is_left_alone(tmp_path, monkeypatch, asked):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "work" / asked
    message = f"{folder.resolve()} would be replaced by the bundle: name a folder inside it with --to"
    refused(folder, message)


@pytest.mark.parametrize("content", [b"mine", b"PK\x03\x04mine"])
def test_a_file_with_the_name_of_the_zip_is_left_alone(tmp_path, content):
    (tmp_path / "here.zip").write_bytes(content)
    refused(tmp_path / "here", f"{tmp_path / 'here.zip'} exists and is not a bundle: name another folder with --to")


def test_a_zip_of_the_user_is_left_alone(tmp_path):
    with zipfile.ZipFile(tmp_path / "here.zip", "w") as archive:
        archive.writestr("photos/1.png", b"mine")
    refused(tmp_path / "here", f"{tmp_path / 'here.zip'} exists and is not a bundle: name another folder with --to")


def test_the_bundle_of_another_model_is_left_alone(tmp_path):
    write("other-trial-3", files_of("other-trial-3"), tmp_path / "here")
    message = f"{tmp_path / 'here'} exists and is another bundle, other-trial-3: name another folder with --to"
    refused(tmp_path / "here", message)


def test_before_it_is_made_a_bundle_may_replace_any_other(tmp_path):
    write("other-trial-3", files_of("other-trial-3"), tmp_path / "here")
    writing.refuse(tmp_path / "here")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="notes exists and is not a bundle"):
        writing.refuse(tmp_path / "notes")


@pytest.mark.parametrize(("name", "what"), [("notes.txt", "added"), ("model.onnx", "changed")])
def test_a_bundle_in_which_the_user_worked_is_left_alone(tmp_path, name, what):
    write("tiny", FILES, tmp_path / "here")
    (tmp_path / "here" / name).write_text("mine")
    obstacle = f"is not as it was shipped ({name} was {what})"
    refused(tmp_path / "here", f"{tmp_path / 'here'} exists and {obstacle}: name another folder with --to")


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
files = {path.relative_to(sys.argv[3]).as_posix(): path for path in Path(sys.argv[3]).rglob("*") if path.is_file()}
writing.write("tiny", files, Path(sys.argv[1]))
"""
STEPS = len(FILES) + 3
"""A step for each file that is brought to the disk, and for each renaming."""


@pytest.mark.parametrize("step", [*long(*range(STEPS - 2)), STEPS - 2, STEPS - 1, STEPS])
@pytest.mark.long
def test_a_killed_write_leaves_no_bundle_or_a_whole_one(tmp_path, step):
    """Killed before each file is on the disk, before each renaming, and (at the last step) not at all."""
    write("tiny", FILES, tmp_path / "here")
    write("tiny", NEWER, tmp_path / "newer")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "here"), str(step), str(tmp_path / "newer")]
    assert subprocess.run(command, env=environment).returncode == (9 if step < STEPS else 0)
    assert not (tmp_path / "here").exists() or contents(tmp_path / "here") in [FILES, NEWER]
    with zipfile.ZipFile(tmp_path / "here.zip") as archive:
        assert archive.testzip() is None


def test_a_folder_below_a_file_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the bundle cannot be written to .*file/here: "):
        write("tiny", FILES, tmp_path / "file" / "here")
