"""Every file in `space/wrong` is refused with exactly the lines that it lists after `# expect`."""

import os
from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.errors import SpaceError
from vitsearch.space import load

FILES = sorted(Path(SPACE_FILES, "wrong").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_wrong_file(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    listed = path.read_text().partition("# expect\n")[2]
    with pytest.raises(SpaceError) as caught:
        load(path.name)
    assert list(caught.value.problems) == [line.removeprefix("#   ") for line in listed.splitlines()]
    assert caught.value.exit_code == 2


def test_there_are_enough_of_them():
    assert len(FILES) >= 32


def test_messages_contain_no_secret(monkeypatch):
    for path in FILES:
        with pytest.raises(SpaceError) as caught:
            load(path)
        assert "hunter2" not in str(caught.value)
        assert "123456" not in str(caught.value)


def test_the_error_names_the_file_and_counts_problems(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("study: s\n")
    with pytest.raises(SpaceError) as caught:
        load(path)
    assert str(caught.value).splitlines()[0] == f"{path}: 3 problems"


def test_a_missing_file_is_reported_with_the_nearest_name(tmp_path):
    (tmp_path / "jetson_nano.yaml").write_text("")
    with pytest.raises(SpaceError, match="did you mean 'jetson_nano.yaml'"):
        load(tmp_path / "jetson_nona.yaml")
    with pytest.raises(SpaceError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(SpaceError, match="does not exist"):
        load(tmp_path / "no" / "such.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"study: \xff\n", "line 1: the text is not UTF-8"),
        (b"study: a\nb: \x00\n", "line 2: character 0 is not allowed in YAML"),
        (b'study: "\\UFFFFFFFF"\n', "line 1: not valid YAML: a \\U escape does not name a character"),
        (b"[" * 60 + b"]" * 60, "line 1: nested deeper than 24 levels"),
        (b"a" * 1_000_001, "the file is too large for a space file; allowed: up to 1,000,000 bytes"),
        (b"a: 1\n" * 60_000, "line 10000: more than 20,000 keys and values, which no space file needs"),
    ],
    ids=["utf8", "nul", "escape", "deep", "large", "many"],
)
def test_unparsable_bytes_are_refused(tmp_path, data, message):
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    with pytest.raises(SpaceError) as caught:
        load(path)
    assert caught.value.problems == (message,)


def test_of_very_many_problems_the_first_are_named(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("".join(f"key_{number}: 1\n" for number in range(5_000)))
    with pytest.raises(SpaceError, match=r"the file has 4,\d+ more problems, which are not named") as caught:
        load(path)
    assert len(caught.value.problems) < 300


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("study: s\n")
    path.chmod(0)
    with pytest.raises(SpaceError, match="cannot be read: Permission denied"):
        load(path)
