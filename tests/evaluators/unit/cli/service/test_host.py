import sys

import pytest

from vitsearch_agent.cli.service import host
from vitsearch_agent.cli.service.host import Host, Program, is_hidden


def test_an_installed_package_is_started_with_its_python():
    program = Program.current()
    assert program.command(None) == (sys.executable, "-m", "vitsearch_agent")
    assert program.needs[-1].endswith("vitsearch_agent")


def test_a_user_without_a_name_is_a_number(monkeypatch):
    monkeypatch.setattr(host.os, "geteuid", lambda: 4_000_000)
    current = Host.current()
    assert (current.name, current.is_root) == ("4000000", False)


@pytest.mark.parametrize(
    ("path", "hidden"),
    [("/home/ada/x", True), ("/root", True), ("/tmp/x", True), ("/homes/x", False), ("/opt/home", False)],
)
def test_paths_hidden_by_the_unit(path, hidden):
    assert is_hidden(path) is hidden
