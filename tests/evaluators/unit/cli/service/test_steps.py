import os

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.cli.service.steps import Command, Copy, Folder, Remove, RemoveEmpty, RemoveTree, Write
from vitsearch_agent.errors import AgentError


@pytest.fixture
def system(tmp_path):
    return System(str(tmp_path))


def mode(path):
    return path.stat().st_mode & 0o777


def test_modes_do_not_depend_on_the_umask(system, tmp_path):
    (tmp_path / "source").write_bytes(b"\0program")
    before = os.umask(0o077)
    try:
        Write("/etc/a/unit", "text\n").do(system)
        Copy(str(tmp_path / "source"), "/opt/program").do(system)
        Folder("/opt", 0o755, None).do(system)
    finally:
        os.umask(before)
    assert (tmp_path / "etc/a/unit").read_text() == "text\n"
    assert (tmp_path / "opt/program").read_bytes() == b"\0program"
    assert [mode(tmp_path / name) for name in ("etc/a/unit", "opt/program", "opt")] == [0o644, 0o755, 0o755]


def test_a_link_is_replaced_and_its_target_is_not_written(system, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "unit").symlink_to(tmp_path / "victim")
    (tmp_path / "unit.part").symlink_to(tmp_path / "victim")
    Write("/unit", "text").do(system)
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "unit").read_text() == "text"
    assert not (tmp_path / "unit").is_symlink()


def test_missing_files_and_folders_that_are_not_empty_can_be_removed(system, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    Remove("/none").do(system)
    RemoveEmpty("/none").do(system)
    RemoveEmpty("/folder").do(system)
    assert (tmp_path / "folder/file").exists()
    Remove("/folder/file").do(system)
    RemoveEmpty("/folder").do(system)
    assert not (tmp_path / "folder").exists()


def test_removing_a_tree_keeps_the_targets_of_links(system, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state/link").symlink_to(tmp_path / "victim")
    RemoveTree("/state").do(system)
    assert (tmp_path / "victim").exists()
    assert not (tmp_path / "state").exists()


def test_a_failed_command_gives_the_reason_and_advice(system):
    with pytest.raises(AgentError, match="^no-such-tool 'a b': no-such-tool cannot be run: No such file.*; try so"):
        Command(("no-such-tool", "a b"), "try so").do(system)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Command(("useradd", "a b"), ""), "run     useradd 'a b'"),
        (Write("/etc/unit", "text"), "write   /etc/unit"),
        (Folder("/st", 0o700, "ada"), "folder  /st (0700, ada)"),
        (Folder("/st", 0o755, None), "folder  /st (0755)"),
        (RemoveTree("/st"), "remove  /st and its contents"),
    ],
)
def test_each_step_is_described_on_one_line(step, text):
    assert step.describe() == text
