"""What has the name of a file is opened only if it is one."""

import os
import subprocess

import pytest

from vitsearch_agent.base.plain_files import (
    clear,
    copy_file,
    create_plain,
    open_plain,
    read_plain,
    remove_tree,
    require_replaceable,
)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    return str(tmp_path / "file")


def test_a_file_is_read(path):
    assert read_plain(path, 7) == b"content"


def test_a_file_that_is_too_large_is_refused(path):
    with pytest.raises(OSError, match="it has more than 6 bytes"):
        read_plain(path, 6)


def test_a_link_is_followed_only_if_asked(path):
    os.symlink(path, path + ".link")
    assert read_plain(path + ".link", 7, links=True) == b"content"
    with pytest.raises(OSError, match="it is a link"):
        open_plain(path + ".link")


@pytest.mark.parametrize("links", [False, True])
def test_what_is_no_file_is_refused_at_once(tmp_path, links):
    os.mkfifo(str(tmp_path / "fifo"))
    for other, kind in ((str(tmp_path / "fifo"), "a FIFO"), ("/dev/null", "a device"), (str(tmp_path), "a folder")):
        with pytest.raises(OSError, match=f"it is {kind}"):
            open_plain(other, links)


def test_a_file_is_made_in_the_place_of_whatever_was_there(tmp_path, path):
    os.symlink(path, str(tmp_path / "link"))
    os.mkfifo(str(tmp_path / "fifo"))
    (tmp_path / "folder" / "more").mkdir(parents=True)
    for name in ("link", "fifo", "folder", "nothing"):
        with create_plain(str(tmp_path / name)) as stream:
            stream.write(b"new")
        assert read_plain(str(tmp_path / name), 3) == b"new"
    assert read_plain(path, 7) == b"content"


def test_a_link_to_a_folder_is_removed_and_the_folder_is_not(tmp_path):
    (tmp_path / "folder").mkdir()
    os.symlink(str(tmp_path / "folder"), str(tmp_path / "link"))
    clear(str(tmp_path / "link"))
    assert os.listdir(str(tmp_path)) == ["folder"]


def deep(folder, levels=3000):
    """Make folders in one another, each with a file: deeper than Python's stack and than a path may be long."""
    before = os.getcwd()
    os.chdir(str(folder))
    try:
        for _ in range(levels):
            os.mkdir("x")
            os.chdir("x")
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
    finally:
        os.chdir(before)


@pytest.fixture
def no_remains(tmp_path):
    """What a failed test leaves is too deep for pytest."""
    yield
    subprocess.run(["rm", "-rf", str(tmp_path / "theirs")], check=True)


def test_a_very_deep_folder_is_removed_and_what_links_lead_to_is_not(no_remains, tmp_path):
    """A measured model could make one, and the agent would end at each start."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / "ours" / "file").write_text("ours")
    deep(tmp_path / "theirs")
    (tmp_path / "theirs" / "x" / "link").symlink_to(tmp_path / "ours")
    remove_tree(str(tmp_path / "theirs"))
    assert not (tmp_path / "theirs").exists()
    assert (tmp_path / "ours" / "file").read_text() == "ours"


def test_what_is_not_there_is_removed_already(tmp_path):
    remove_tree(str(tmp_path / "nothing"))


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_an_output_takes_the_place_of_a_file_only(path, kind):
    require_replaceable(path)
    require_replaceable(path + ".new")
    other = path + ".other"
    if kind == "link":
        os.symlink(path, other)
    elif kind == "FIFO":
        os.mkfifo(other)
    else:
        os.mkdir(other)
    with pytest.raises(OSError, match="it is a " + kind):
        require_replaceable(other)


def test_a_copy_is_written_in_the_place_of_a_link_and_shares_nothing_with_its_source(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    target.symlink_to(tmp_path / "elsewhere")
    copy_file(str(source), str(target))
    with open(str(target), "ab") as stream:
        stream.write(b" and more")
    assert (source.read_bytes(), target.read_bytes()) == (b"content", b"content and more")
    assert not (tmp_path / "elsewhere").exists()
