"""A bundle on disk is whole or not there, and equal bundles are equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import PYTHON_PATH
from vitsearch.errors import BundleError, StoreError, VitsearchError
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
    first, other = (write("tiny", FILES, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == other


def test_a_bundle_replaces_an_earlier_one(tmp_path):
    write("tiny", FILES, tmp_path / "here")
    write("tiny", NEWER, tmp_path / "here")
    assert contents(tmp_path / "here") == NEWER
    assert sorted(os.listdir(tmp_path)) == ["here", "here.zip"]


def test_a_bundle_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        archive = write("tiny", FILES, tmp_path / "here")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (archive, tmp_path / "here" / "model.onnx")}
    assert modes == {0o640}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "here", tmp_path / "here" / "images")} == {0o750}


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


@pytest.mark.parametrize("name", [".", ".."])
def test_the_folder_of_the_process_is_left_alone(tmp_path, monkeypatch, name):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "work" / name
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
    with writing.reserved(tmp_path / "here"):
        pass
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="notes exists and is not a bundle"), writing.reserved(tmp_path / "notes"):
        pass


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
        write("tiny", FILES, tmp_path / "further" / "here")
    assert list(tmp_path.iterdir()) == []


def test_a_new_bundle_that_cannot_be_renamed_leaves_the_earlier_one(tmp_path, monkeypatch):
    write("tiny", FILES, tmp_path / "here")
    rename = os.rename

    def failing(old, new):
        if Path(old).name == writing.NEW:
            raise OSError(5, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(StoreError, match="Input/output error"):
        write("tiny", NEWER, tmp_path / "here")
    assert contents(tmp_path / "here") == FILES
    assert sorted(os.listdir(tmp_path)) == ["here", "here.zip"]


# ---- names that are not ours


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.mkdir()
    (path / "diary.txt").write_text("mine")
    return path


@pytest.mark.parametrize("name", [".here.zip.part", ".here.part", ".here.old", ".here.zip.old"])
def test_a_planted_link_beside_the_bundle_is_left_alone(tmp_path, victim, name):
    for target in (victim, victim / "diary.txt"):
        (tmp_path / name).symlink_to(target)
        write("tiny", FILES, tmp_path / "here")
        assert contents(victim) == {"diary.txt": b"mine"}
        assert os.readlink(tmp_path / name) == str(target)
        (tmp_path / name).unlink()


def test_files_and_folders_of_others_beside_the_bundle_are_left_alone(tmp_path):
    for name in (".here.part", ".here.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "diary.txt").write_text("mine")
    (tmp_path / ".here.zip.part").write_text("mine")
    before = contents(tmp_path)
    for files in (FILES, NEWER):
        write("tiny", files, tmp_path / "here")
    assert {name: content for name, content in contents(tmp_path).items() if name in before} == before


def foreign(kind, work, victim):
    """Put something that no ship made in the place of the working folder."""
    if kind == "file":
        work.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(work)
    elif kind.startswith("link"):
        work.symlink_to({"link": victim, "link to a file": victim / "diary.txt", "link to nothing": "/nothing"}[kind])
    else:
        work.mkdir(0o700)
        (work / "diary.txt").write_text("mine")


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "link to a file", "link to nothing", "folder"])
def test_a_working_folder_of_others_is_refused_and_left_alone(tmp_path, victim, kind):
    foreign(kind, work := tmp_path / ".here.ship", victim)
    before, inside = os.lstat(work), contents(victim)
    with pytest.raises(BundleError) as raised:
        write("tiny", FILES, tmp_path / "here")
    assert str(raised.value).startswith(f"{work} is not of a 'vitsearch ship' of yours (")
    assert len(str(raised.value).splitlines()) == 1
    assert (os.lstat(work).st_ino, contents(victim)) == (before.st_ino, inside)
    assert sorted(os.listdir(tmp_path)) == [".here.ship", "victim"]


def test_a_working_folder_with_a_planted_lock_is_refused(tmp_path, victim):
    (tmp_path / ".here.ship").mkdir(0o700)
    (tmp_path / ".here.ship" / "lock").symlink_to(victim / "diary.txt")
    with pytest.raises(BundleError, match="its lock is not a file"):
        write("tiny", FILES, tmp_path / "here")
    assert contents(victim) == {"diary.txt": b"mine"}


def test_a_working_folder_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / ".here.ship").mkdir()
    (tmp_path / ".here.ship").chmod(0o777)
    with pytest.raises(BundleError, match="others may write to it"):
        write("tiny", FILES, tmp_path / "here")


NOBODY = """
import os, sys
from pathlib import Path
from vitsearch.errors import BundleError
from vitsearch.ship import writing

os.setgid(65534)
os.setuid(65534)
try:
    writing.write("tiny", {}, Path(sys.argv[1]))
except BundleError as error:
    print(error)
"""


@pytest.fixture
def as_nobody():
    """as_nobody(folder): what a user without rights is told who writes a bundle there."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")

    def run(folder):
        environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
        done = subprocess.run(
            [sys.executable, "-c", NOBODY, str(folder)], env=environment, cwd="/", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def public():
    """A folder that every user reaches, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        if not all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(name).resolve().parents):
            pytest.skip(f"{Path(name).parent} is closed to other users")
        yield Path(name)


def test_a_working_folder_of_another_user_is_refused(public, as_nobody):
    public.chmod(0o1777)
    (public / ".here.ship").mkdir(0o700)
    said = as_nobody(public / "here")
    assert said == (
        f"{public / '.here.ship'} is not of a 'vitsearch ship' of yours (it belongs to user 0): "
        "name another folder with --to\n"
    )
    assert os.listdir(public) == [".here.ship"]


@pytest.mark.parametrize("leads_to", ["real", "nothing"])
@pytest.mark.parametrize("link", ["out", "out.zip"])
def test_a_link_in_the_place_of_the_bundle_is_not_followed(tmp_path, link, leads_to):
    (tmp_path / "real").mkdir()
    (tmp_path / link).symlink_to(leads_to)
    with pytest.raises(BundleError) as raised:
        write("tiny", FILES, tmp_path / "out")
    message = "is a link, which ship does not follow: name the place itself with --to"
    assert str(raised.value) == f"{tmp_path / link} {message}"
    assert sorted(os.listdir(tmp_path)) == sorted(["real", link])
    assert os.listdir(tmp_path / "real") == []


def test_a_link_among_the_parents_is_the_place_that_the_user_named(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write("tiny", FILES, tmp_path / "link" / "here")
    assert contents(tmp_path / "real" / "here") == FILES


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_is_neither_folder_nor_file_is_refused_without_opening_it(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(BundleError, match=r"exists and is not a (folder|file)"):
        write("tiny", FILES, tmp_path / "out")


def test_the_zip_of_a_bundle_is_no_folder_for_another(tmp_path):
    archive = write("tiny", FILES, tmp_path / "here")
    before = archive.read_bytes()
    with pytest.raises(BundleError, match=r"here\.zip exists and is not a folder"):
        write("tiny", NEWER, archive)
    assert archive.read_bytes() == before


# ---- several at once


@pytest.fixture
def frequent_switches():
    """Threads take turns every 10 µs, so that one sees the halfway states of another."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before_s)


def test_a_second_ship_to_the_same_folder_is_told_who_writes(tmp_path):
    with writing.reserved(tmp_path / "here") as target:
        with pytest.raises(BundleError) as raised:
            write("tiny", NEWER, tmp_path / "here")
        target.write("tiny", FILES)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'here'} is being written by process {os.getpid()} of ")
    assert len(said.splitlines()) == 1
    assert contents(tmp_path / "here") == FILES
    assert sorted(os.listdir(tmp_path)) == ["here", "here.zip"]


def test_of_many_at_once_each_succeeds_or_is_refused_and_the_bundle_is_whole(tmp_path, frequent_switches):
    start = threading.Barrier(4)

    def ship(files):
        start.wait()
        try:
            write("tiny", files, tmp_path / "here")
        except VitsearchError as error:
            return str(error)
        return "written"

    with ThreadPoolExecutor(4) as pool:
        for _ in range(40):
            said = list(pool.map(ship, [FILES, NEWER, FILES, NEWER]))
            assert "written" in said
            assert all(line == "written" or "is being written by " in line for line in said)
            assert contents(tmp_path / "here") in (FILES, NEWER)
            with zipfile.ZipFile(tmp_path / "here.zip") as archive:
                assert archive.testzip() is None
                assert len(archive.namelist()) == len(FILES)
            assert sorted(os.listdir(tmp_path)) == ["here", "here.zip"]


KILLED = """
import os, sys
from pathlib import Path
from vitsearch.ship import writing

folder, newer = map(Path, sys.argv[1:3])
files = {path.relative_to(newer).as_posix(): path for path in newer.rglob("*") if path.is_file()}

def killed_at(step):
    def killing(work):
        def killed(*arguments, **named):
            nonlocal step
            step -= 1
            if step < 0:
                os._exit(9)
            return work(*arguments, **named)
        return killed

    if (pid := os.fork()) == 0:
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "open"):
            setattr(os, name, killing(getattr(os, name)))
        writing.write("tiny", files, folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def step_by_step():
    step = 0
    while (code := killed_at(step)) == 9:
        print("killed", flush=True)
        sys.stdin.readline()
        step += 1
    print("ended", code, flush=True)

step_by_step()
"""


@pytest.mark.long
def test_a_write_that_is_killed_at_any_step_leaves_no_bundle_or_a_whole_one(tmp_path):
    """Before everything that it makes, brings to the disk, renames or removes. The next write finds nothing in its way
    and puts the earlier bundle back."""
    here = tmp_path / "here"
    write("tiny", FILES, here)
    write("tiny", NEWER, tmp_path / "newer")
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    command = [sys.executable, "-c", KILLED, str(here), str(tmp_path / "newer")]
    seen = []
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            if line != "killed\n":
                assert line == "ended 0\n"
                break
            seen.append(contents(here) if here.exists() else None)
            with zipfile.ZipFile(tmp_path / "here.zip") as archive:
                assert archive.testzip() is None
            with writing.reserved(here):
                assert contents(here) in (FILES, NEWER)
            write("tiny", FILES, here)
            assert sorted(os.listdir(tmp_path)) == ["here", "here.zip", "newer", "newer.zip"]
            child.stdin.write("\n")
            child.stdin.flush()
    assert contents(here) == NEWER
    assert all(content in (None, FILES, NEWER) for content in seen)
    assert FILES in seen
    assert None in seen
    assert NEWER in seen


def test_what_a_killed_write_left_is_removed_and_the_earlier_bundle_is_back(tmp_path):
    """Killed between the two renamings."""
    write("tiny", FILES, tmp_path / "here")
    work = tmp_path / ".here.ship"
    work.mkdir(0o700)
    (work / "lock").write_text("{}")
    (tmp_path / "here").rename(work / "earlier")
    (work / "bundle").mkdir()
    (work / "bundle.zip").write_bytes(b"half of i")
    with writing.reserved(tmp_path / "here"):
        assert contents(tmp_path / "here") == FILES
        assert os.listdir(work) == ["lock"]
    assert sorted(os.listdir(tmp_path)) == ["here", "here.zip"]


# ---- names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("n" * 300, "a name there has at most "),
        ("n" * 250, "a name there has at most "),
        ("m" * 300 + "/here", "File name too long"),
        ("further/" + "n" * 300 + "/here", "a name there has at most "),
        ("abcde/" * 1000, "File name too long"),
        ("a\0b", "a\\x00b: the name of a folder must be text without control characters"),
        ("a\nb", "a\\nb: the name of a folder must be text without control characters"),
        ("a\x1b[2Jb", "\\x1b[2Jb: the name of a folder must be text without control characters"),
        ("a\udcffb", "a\\udcffb: the name of a folder must be text without control characters"),
        ("file/here", "file is not a folder, so no bundle can be written below it"),
        ("nothing/here", "nothing is not a folder, so no bundle can be written below it"),
    ],
    ids=[
        "300",
        "250",
        "parent",
        "new parent",
        "path",
        "NUL",
        "newline",
        "escape",
        "no text",
        "below a file",
        "below a dead link",
    ],
)
def test_a_name_that_no_bundle_can_have_is_one_line_at_once(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "nothing").symlink_to("nowhere")
    with pytest.raises(BundleError) as raised, writing.reserved(tmp_path / name):
        pass
    said = str(raised.value)
    assert reason in said
    assert len(said.splitlines()) == 1
    assert len(said) < 400
    assert sorted(os.listdir(tmp_path)) == ["file", "nothing"]


@pytest.mark.parametrize("name", ["here", "absolute"])
def test_a_present_folder_that_was_removed_is_one_line(tmp_path, monkeypatch, name):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(BundleError, match="the folder in which this command runs was removed"):
        write("tiny", FILES, tmp_path / "here" if name == "absolute" else Path("here"))


def test_a_name_that_just_fits_is_taken(tmp_path):
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") - len(".") - len(".ship")
    write("tiny", FILES, tmp_path / ("n" * longest))
    with pytest.raises(BundleError, match=f"at most {longest} bytes"):
        write("tiny", FILES, tmp_path / ("n" * (longest + 1)))


def test_a_place_without_the_right_to_write_is_told_at_once(public, as_nobody):
    said = as_nobody(public / "further" / "here")
    assert said == f"{public} cannot be written to: name another folder with --to\n"


@pytest.mark.parametrize("name", ["../../victim", "/tmp/x", "a/b", "", ".hidden", "a\nb", "\u202eb"])
def test_a_name_from_a_database_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(BundleError, match="cannot be the name of a bundle"):
        write(name, files_of(name), tmp_path / "here")
    assert list(tmp_path.iterdir()) == []
