"""The systemd unit, in the repository and on every machine."""

import pathlib
import shutil
import subprocess

import pytest

from support import AGENT_HOME
from vitsearch_agent.cli import app
from vitsearch_agent.cli.service import systemd_unit
from vitsearch_agent.cli.service.options import ServiceOptions
from vitsearch_agent.errors import InvalidRequest

COMMITTED = pathlib.Path(AGENT_HOME, "vitsearch-agent.service")
OPEN = ServiceOptions(host="0.0.0.0", port=9000, token_file="/etc/my token", user="lab")


def service(options=OPEN, state="/data/st", system_wide=True):
    return systemd_unit.Service(("/usr/bin/python3", "/opt/vitsearch/vitsearch-agent.pyz"), options, state, system_wide)


def test_the_file_in_the_repository_is_what_install_writes():
    assert COMMITTED.read_text() == systemd_unit.text(systemd_unit.DEFAULT_SERVICE), (
        "write unit.text(unit.DEFAULT_SERVICE) into evaluators/vitsearch-agent.service"
    )


def complaints(path, manager):
    """Return systemd's complaints about a unit's lines, without those about keys that it does not know."""
    result = subprocess.run(
        ["systemd-analyze", manager, "--man=no", "verify", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(path.parent)},
    )
    lines = result.stdout.decode().splitlines()
    return [line for line in lines if path.name in line and "Unknown key" not in line and "Unknown lvalue" not in line]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("system_wide", [True, False])
def test_systemd_accepts_the_unit(tmp_path, system_wide):
    manager = "--system" if system_wide else "--user"
    path, program = tmp_path / systemd_unit.UNIT, tmp_path / "a program"
    options = ServiceOptions(host="192.168.1.7", token_file='/etc/100 % "my" $token\\')
    path.write_text(systemd_unit.text(systemd_unit.Service((str(program),), options, str(tmp_path), system_wide)))
    if complaints(path, manager) == []:
        pytest.skip("systemd-analyze does not check the program here, so it may check nothing")
    program.write_text("")
    program.chmod(0o755)
    assert complaints(path, manager) == []


def test_the_unit_contains_its_options():
    assert systemd_unit.parse_options(systemd_unit.text(service()), "x.service") == OPEN


@pytest.mark.parametrize("text", ["", "[Service]\n", "Installed=\n", "Installed={\n", 'Installed={"port": 0}\n'])
def test_a_unit_with_another_author_is_refused(text):
    with pytest.raises(InvalidRequest, match="x.service"):
        systemd_unit.parse_options(text, "x.service")


def test_a_wrong_configuration_is_not_started_again():
    text = systemd_unit.text(service())
    assert f"RestartPreventExitStatus={app.WRONG_CONFIGURATION}\n" in text
    assert "Restart=always\n" in text


@pytest.mark.parametrize(
    ("host", "waits"),
    [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", False), ("::", False), ("10.0.0.7", True)],
)
def test_the_unit_waits_for_the_network_when_it_needs_one_address(host, waits):
    text = systemd_unit.text(service(OPEN._replace(host=host)))
    assert ("Wants=network-online.target" in text) is waits


def test_the_unit_does_not_restrict_measurements():
    settings = [line for line in systemd_unit.text(service()).splitlines() if not line.startswith("#")]
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


@pytest.mark.parametrize("system_wide", [True, False])
def test_a_measuring_child_may_make_its_network_namespace(system_wide):
    restricted = [
        line for line in systemd_unit.text(service(system_wide=system_wide)).splitlines() if "Namespaces=" in line
    ]
    assert restricted == ["RestrictNamespaces=user net"]


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
def test_words_are_quoted_for_systemd(word, written):
    assert systemd_unit.command_word(word) == written
