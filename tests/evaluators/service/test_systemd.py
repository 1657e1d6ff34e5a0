"""The unit: one text for the file in the repository and for every machine."""

import pathlib
import shutil
import subprocess

import pytest

from vitsearch_evaluators import cli
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.service import systemd
from vitsearch_evaluators.service.wanted import Wanted

COMMITTED = pathlib.Path(__file__).parents[3] / "evaluators" / "vitsearch-agent.service"
OPEN = Wanted(host="0.0.0.0", port=9000, token_file="/etc/my token", user="lab")


def service(wanted=OPEN, state="/data/st", of_machine=True):
    return systemd.Service(("/usr/bin/python3", "/opt/vitsearch/vitsearch-agent.pyz"), wanted, state, of_machine)


def test_the_file_in_the_repository_is_what_install_writes():
    assert COMMITTED.read_text() == systemd.unit(systemd.DEFAULT_SERVICE), (
        "write systemd.unit(systemd.DEFAULT_SERVICE) into evaluators/vitsearch-agent.service"
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("of_machine", [True, False])
def test_systemd_finds_nothing_wrong_with_it(tmp_path, of_machine):
    (tmp_path / "a program").write_text("")
    (tmp_path / "a program").chmod(0o755)
    path = tmp_path / systemd.UNIT
    wanted = Wanted(host="192.168.1.7", token_file='/etc/100 % "my" $token\\')
    path.write_text(systemd.unit(systemd.Service((str(tmp_path / "a program"),), wanted, str(tmp_path), of_machine)))
    manager = "--system" if of_machine else "--user"
    found = subprocess.run(
        ["systemd-analyze", manager, "--recursive-errors=no", "--man=no", "verify", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (found.stdout.decode(), found.returncode) == ("", 0)


def test_it_remembers_with_what_it_was_made():
    assert systemd.remembered(systemd.unit(service()), "x.service") == OPEN


@pytest.mark.parametrize("text", ["", "[Service]\n", "Installed=\n", "Installed={\n", 'Installed={"port": 0}\n'])
def test_a_unit_of_somebody_else_is_refused(text):
    with pytest.raises(InvalidRequest, match="x.service"):
        systemd.remembered(text, "x.service")


def test_a_wrong_configuration_is_not_started_again():
    text = systemd.unit(service())
    assert f"RestartPreventExitStatus={cli.WRONG_CONFIGURATION}\n" in text
    assert "Restart=always\n" in text


@pytest.mark.parametrize(
    ("host", "waits"),
    [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", False), ("::", False), ("10.0.0.7", True)],
)
def test_an_address_of_its_own_is_waited_for(host, waits):
    text = systemd.unit(service(OPEN._replace(host=host)))
    assert ("Wants=network-online.target" in text) is waits


def test_what_a_measurement_needs_is_not_taken_away():
    settings = [line for line in systemd.unit(service()).splitlines() if not line.startswith("#")]
    assert "Delegate=memory" in settings
    for taken in (
        "PrivateDevices",
        "DevicePolicy",
        "DeviceAllow",
        "ProtectKernelLogs",
        "ProtectClock",
        "ProtectControlGroups",
    ):
        assert not any(line.startswith(taken) for line in settings), taken
    for slower in ("CPUQuota", "MemoryDenyWriteExecute", "MemoryMax", "MemoryHigh", "SystemCallFilter"):
        assert not any(line.startswith(slower) for line in settings), slower


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain-1.2/x:y", "plain-1.2/x:y"),
        ("two words", '"two words"'),
        ("", '""'),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        ('say "x"\\', '"say \\"x\\"\\\\"'),
    ],
)
def test_words_reach_the_agent_as_they_are(word, written):
    assert systemd.command_word(word) == written
