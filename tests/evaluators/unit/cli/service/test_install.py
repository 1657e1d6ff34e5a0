"""`install` and `uninstall` as a whole, on a machine with real files and recorded commands."""

import socket

import pytest

from vitsearch_agent.cli.service import detect, systemd_unit
from vitsearch_agent.cli.service.install import describe, install, install_steps, uninstall, uninstall_steps
from vitsearch_agent.errors import AgentError, InvalidRequest

UNIT = "/etc/systemd/system/vitsearch-agent.service"
PROGRAM = "/opt/vitsearch/vitsearch-agent.pyz"
STATE = "/var/lib/vitsearch"
NAME = "vitsearch-agent.service"
START = ["systemctl daemon-reload", f"systemctl enable {NAME}", f"systemctl restart {NAME}"]
FINGERPRINT = "sha256:" + "ab" * 32


@pytest.fixture(autouse=True)
def name(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "board")


@pytest.fixture
def as_root(machine):
    return detect.find(machine.root_user, machine.program, machine.system)


@pytest.fixture
def as_ada(machine):
    return detect.find(machine.ada, machine.program, machine.system)


def run_install(manager, **options):
    lines = []
    install(manager, options, lines.append)
    return lines


def test_install_on_a_new_board_runs_all_steps(machine, as_root):
    lines = run_install(as_root)
    assert machine.commands == [
        f"useradd --system --user-group --no-create-home --home-dir {STATE} --shell /usr/sbin/nologin vitsearch",
        "usermod --append --groups video,render vitsearch",
        *START,
    ]
    assert machine.file(PROGRAM).read_bytes() == b"version 1"
    assert machine.file(PROGRAM).stat().st_mode & 0o777 == 0o755
    assert machine.file(UNIT).stat().st_mode & 0o777 == 0o644
    assert machine.file(UNIT).read_text() == systemd_unit.text(systemd_unit.DEFAULT_SERVICE)
    assert lines[-3:] == [
        "from another machine, first run: ssh -N -L 8470:127.0.0.1:8470 board",
        "on the machine that searches, run: vitsearch devices add http://127.0.0.1:8470",
        f"it asks for the token; to show it, run here: sudo /usr/bin/python3 {PROGRAM} token --state {STATE}",
    ]


def test_install_on_the_network_prints_the_fingerprint(machine, as_root):
    machine.fingerprint = FINGERPRINT
    lines = run_install(as_root, host="0.0.0.0")
    assert (
        f"on the machine that searches, run: vitsearch devices add https://board:8470 --fingerprint {FINGERPRINT}"
        in lines
    )
    assert not any("ssh" in line for line in lines)


def test_install_without_encryption_warns(as_root):
    assert any("without encryption" in line for line in run_install(as_root, host="0.0.0.0", insecure_plaintext=True))
    assert not any("without encryption" in line for line in run_install(as_root, host="127.0.0.1"))


def test_the_account_joins_only_existing_groups_that_it_lacks(machine, as_root):
    machine.groups = {"video"}
    machine.accounts["vitsearch"] = ["vitsearch"]
    run_install(as_root)
    assert machine.commands == ["usermod --append --groups video vitsearch", *START]


def test_a_second_install_upgrades_with_the_same_options(machine, as_root):
    run_install(as_root, host="0.0.0.0", insecure_plaintext=True, user="lab")
    first = machine.file(UNIT).read_text()
    machine.commands.clear()
    machine.download.write_bytes(b"version 2")
    run_install(as_root)
    assert machine.commands == ["systemctl stop vitsearch-agent.service", *START]
    assert machine.file(PROGRAM).read_bytes() == b"version 2"
    assert machine.file(UNIT).read_text() == first
    run_install(as_root, port=9000, host="127.0.0.1")
    assert "serve --host 127.0.0.1 --port 9000 " in machine.file(UNIT).read_text()
    assert "User=lab\n" in machine.file(UNIT).read_text()


def test_the_installed_program_can_run_install(machine, as_root):
    run_install(as_root)
    installed = machine.program._replace(archive=str(machine.file(PROGRAM)))
    run_install(detect.find(machine.root_user, installed, machine.system), port=9000)
    assert machine.file(PROGRAM).read_bytes() == b"version 1"
    assert "--port 9000" in machine.file(UNIT).read_text()


def test_a_package_installed_with_pip_is_not_copied(machine):
    program = machine.program._replace(python="/opt/vitsearch/venv/bin/python", archive=None)
    manager = detect.find(machine.root_user, program, machine.system)
    lines = run_install(manager)
    assert "\nExecStart=/opt/vitsearch/venv/bin/python -m vitsearch_agent serve " in machine.file(UNIT).read_text()
    assert lines[-1].endswith("sudo /opt/vitsearch/venv/bin/python -m vitsearch_agent token --state /var/lib/vitsearch")
    assert [step.describe() for step in manager.uninstall_steps()] == [
        "run     systemctl disable --now vitsearch-agent.service",
        f"remove  {UNIT}",
        "run     systemctl daemon-reload",
    ]


def test_a_source_tree_is_refused(machine):
    program = machine.program._replace(archive=None)
    absent = machine.system._replace(run=lambda argv: machine.run(argv)._replace(reason="ended with 1"))
    with pytest.raises(InvalidRequest, match="this package is not installed in /usr/bin/python3"):
        run_install(detect.find(machine.root_user, program, absent))


def test_without_root_a_user_service_is_installed(machine, as_ada):
    lines = run_install(as_ada)
    text = machine.file("/home/ada/.config/systemd/user/vitsearch-agent.service").read_text()
    assert "User=" not in text
    assert "Protect" not in text, "a user's manager may not"
    assert "WantedBy=default.target" in text
    assert "/home/ada/.local/share/vitsearch/vitsearch-agent.pyz serve" in text
    assert machine.file("/home/ada/.local/state/vitsearch").stat().st_mode & 0o777 == 0o700
    assert machine.commands == [line.replace("systemctl", "systemctl --user") for line in START]
    assert any("sudo loginctl enable-linger ada" in line for line in lines)
    assert any("sudo usermod --append --groups video,render ada" in line for line in lines)
    assert "sudo" not in lines[-1]


def test_another_state_folder_is_created_and_writable_for_the_service(machine, as_root):
    run_install(as_root, state="/data/my agent")
    assert "chown vitsearch: /data/my agent" in machine.commands
    assert machine.file("/data/my agent").stat().st_mode & 0o777 == 0o700
    text = machine.file(UNIT).read_text()
    assert 'ReadWritePaths="/data/my agent"\n' in text
    assert "StateDirectory" not in text


def test_a_state_folder_with_other_files_is_refused(machine, as_root):
    machine.file("/data/photos").mkdir(parents=True)
    (machine.file("/data/photos") / "cat.jpg").touch()
    with pytest.raises(InvalidRequest, match="--state /data/photos contains other files"):
        run_install(as_root, state="/data/photos")
    assert machine.commands == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 0}, "--port: expected 1 to 65535"),
        ({"user": "root"}, "--user: expected the name of an unprivileged account"),
        ({"user": "a b"}, "--user: expected the name"),
        ({"tls_cert": "/etc/cert.pem"}, "--tls-cert and --tls-key must be given together"),
        ({"tls": True, "insecure_plaintext": True}, "--insecure-plaintext cannot be combined"),
        ({"state": "/home/ada/state"}, "the service has no access to /home/ada/state"),
        ({"token_file": "/tmp/token"}, "the service has no access to /tmp/token"),
        ({"host": "a\nUser=root"}, "--host: .* contains unprintable characters"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_change(machine, as_root, options, message):
    with pytest.raises(InvalidRequest, match=message):
        run_install(as_root, **options)
    assert machine.commands == []
    assert not machine.file("/opt").exists()


def test_a_python_in_a_home_is_refused(machine):
    program = machine.program._replace(needs=("/opt/venv/bin/python", "/home/ada/.pyenv/bin/python3.11"))
    with pytest.raises(InvalidRequest, match="the service has no access to /home/ada/.pyenv/bin/python3.11"):
        run_install(detect.find(machine.root_user, program, machine.system))


def test_tls_without_openssl_is_refused_unless_a_certificate_exists(machine, as_root):
    machine.missing = {"openssl"}
    with pytest.raises(InvalidRequest, match="openssl cannot be run: No such file"):
        run_install(as_root, host="0.0.0.0")
    machine.file(STATE).mkdir(parents=True)
    for name in ("lock", "tls.pem"):
        (machine.file(STATE) / name).touch()
    assert run_install(as_root, host="0.0.0.0")


def test_the_log_of_an_agent_that_does_not_start_is_shown(machine, as_root):
    machine.last_words = "vitsearch-agent: /var/lib/vitsearch/config.json is not JSON"
    with pytest.raises(AgentError, match="does not listen. journalctl -u .*:$") as caught:
        run_install(as_root)
    assert "config.json is not JSON" in caught.value.details["output_tail"]


def test_a_failed_unit_is_reset_before_it_starts_again(machine, as_root):
    machine.last_words = "vitsearch-agent: cannot listen"
    with pytest.raises(AgentError):
        run_install(as_root)
    steps = [step.describe() for step in install_steps(as_root, {"port": 9000})]
    assert steps[:2] == [f"run     systemctl stop {NAME}", f"run     systemctl reset-failed {NAME}"]


def test_waiting_for_the_agent_has_a_time_limit(machine, as_root):
    machine.silent = True
    with pytest.raises(AgentError, match="does not listen"):
        run_install(as_root)
    assert 60 <= machine.time.now - 100 <= 61


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"port": "x", "fingerprint": null}', '{"port": 1, "fingerprint": "\\u001b"}']
)
def test_an_invalid_port_file_is_an_error(machine, as_root, text):
    real = machine.run

    def run(argv):
        answer = real(argv)
        if "restart" in argv:
            (machine.file(STATE) / "listening.json").write_text(text)
        return answer

    manager = detect.find(machine.root_user, machine.program, machine.system._replace(run=run))
    with pytest.raises(AgentError) as caught:
        run_install(manager)
    assert "\x1b" not in str(caught.value)


def test_a_failed_command_ends_the_installation_with_advice(machine, as_ada):
    refused = machine.system._replace(run=lambda argv: machine.run(argv)._replace(reason="Failed to connect to bus"))
    with pytest.raises(AgentError, match="daemon-reload: Failed to connect to bus; this needs a login session"):
        run_install(detect.find(machine.ada, machine.program, refused))


def test_a_unit_with_another_author_is_not_changed(machine, as_root):
    machine.file(UNIT).parent.mkdir(parents=True)
    machine.file(UNIT).write_text("[Service]\nExecStart=/my/own\n")
    for act in (lambda: run_install(as_root), lambda: uninstall(as_root, True, print)):
        with pytest.raises(InvalidRequest, match="was not written by `vitsearch-agent install`"):
            act()
    assert machine.file(UNIT).read_text() == "[Service]\nExecStart=/my/own\n"
    assert machine.commands == []


def test_uninstall_keeps_the_state(machine, as_root):
    run_install(as_root)
    machine.commands.clear()
    lines = []
    uninstall(as_root, False, lines.append)
    assert machine.commands == ["systemctl disable --now vitsearch-agent.service", "systemctl daemon-reload"]
    assert not machine.file(UNIT).exists()
    assert not machine.file("/opt/vitsearch").exists()
    assert machine.file(STATE).exists()
    assert "is kept" in lines[-1]


def test_uninstall_with_purge_removes_everything(machine, as_root):
    run_install(as_root, state="/data/agent")
    uninstall(as_root, True, print)
    assert not machine.file("/data/agent").exists()
    assert "vitsearch" not in machine.accounts
    lines = []
    uninstall(as_root, True, lines.append)
    assert lines == ["no service is installed"]


def test_a_purge_works_after_an_uninstall(machine, as_root):
    run_install(as_root)
    uninstall(as_root, False, print)
    uninstall(as_root, True, print)
    assert not machine.file(STATE).exists()


def test_a_folder_that_no_agent_used_is_not_purged(machine, as_root):
    machine.silent = True
    machine.file(STATE).mkdir(parents=True)
    (machine.file(STATE) / "config.json").write_text("{}")
    with pytest.raises(AgentError):
        run_install(as_root)
    lines = []
    uninstall(as_root, True, lines.append)
    assert (machine.file(STATE) / "config.json").exists()
    assert lines[-1] == f"{STATE} is kept: no agent has used it"


def test_a_state_that_is_a_file_is_refused(machine, as_root):
    machine.file("/data").write_text("")
    with pytest.raises(InvalidRequest, match="--state /data: Not a directory"):
        run_install(as_root, state="/data")


def test_an_account_with_another_name_is_not_removed(machine, as_root):
    run_install(as_root, user="ada")
    uninstall(as_root, True, print)
    assert "ada" in machine.accounts


def test_other_files_next_to_the_program_are_kept(machine, as_root):
    run_install(as_root)
    (machine.file("/opt/vitsearch") / "venv").mkdir()
    uninstall(as_root, False, print)
    assert [path.name for path in machine.file("/opt/vitsearch").iterdir()] == ["venv"]


def test_a_dry_run_shows_the_steps_and_changes_nothing(machine, as_root):
    steps = describe(install_steps(as_root, {}))
    assert f"copy    {machine.download} to {PROGRAM}" in steps
    assert "    StateDirectory=vitsearch" in steps
    assert steps[-3:] == [f"run     {line}" for line in START]
    assert describe(uninstall_steps(as_root, True)) == []
    assert machine.commands == []
    assert not machine.file("/opt").exists()


def test_without_a_service_manager_the_message_names_the_alternative(machine):
    machine.file("/run/systemd/system").rmdir()
    with pytest.raises(InvalidRequest, match=r"this system does not run systemd.*/usr/bin/python3 .*.pyz serve"):
        detect.find(machine.root_user, machine.program, machine.system)


def test_a_launch_agent_is_installed_and_removed_on_macos(machine):
    manager = detect.find(machine.mac, machine.program, machine.system)
    run_install(manager, port=9000)
    plist = "/Users/ada/Library/LaunchAgents/vitsearch-agent.plist"
    assert machine.commands == [f"launchctl load -w {plist}"]
    run_install(manager)
    assert machine.commands[1:] == [f"launchctl unload {plist}", f"launchctl load -w {plist}"]
    assert "<string>9000</string>" in machine.file(plist).read_text()
    uninstall(manager, True, print)
    assert not machine.file("/Users/ada/Library/Application Support/vitsearch/state").exists()
    with pytest.raises(InvalidRequest, match="without root"):
        detect.find(machine.mac._replace(is_root=True), machine.program, machine.system)
