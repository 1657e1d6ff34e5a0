"""The whole of `install` and `uninstall` on a machine whose files are real and whose commands are recorded."""

import socket

import pytest

from vitsearch_evaluators.cli.service import managers, unit
from vitsearch_evaluators.cli.service.install import describe, install, install_steps, uninstall, uninstall_steps
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest

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
    return managers.find(machine.root_user, machine.program, machine.system)


@pytest.fixture
def as_ada(machine):
    return managers.find(machine.ada, machine.program, machine.system)


def done(manager, **given):
    said = []
    install(manager, given, said.append)
    return said


def test_one_command_on_a_new_board(machine, as_root):
    said = done(as_root)
    assert machine.commands == [
        f"useradd --system --user-group --no-create-home --home-dir {STATE} --shell /usr/sbin/nologin vitsearch",
        "usermod --append --groups video,render vitsearch",
        *START,
    ]
    assert machine.file(PROGRAM).read_bytes() == b"version 1"
    assert machine.file(PROGRAM).stat().st_mode & 0o777 == 0o755
    assert machine.file(UNIT).stat().st_mode & 0o777 == 0o644
    assert machine.file(UNIT).read_text() == unit.text(unit.DEFAULT_SERVICE)
    assert said[-3:] == [
        "from another machine, first: ssh -N -L 8470:127.0.0.1:8470 board",
        "on the machine that searches: vitsearch devices add http://127.0.0.1:8470",
        f"it asks for the token, which this shows here: sudo /usr/bin/python3 {PROGRAM} token --state {STATE}",
    ]


def test_on_the_network_it_tells_the_fingerprint(machine, as_root):
    machine.fingerprint = FINGERPRINT
    said = done(as_root, host="0.0.0.0")
    assert f"on the machine that searches: vitsearch devices add https://board:8470 --fingerprint {FINGERPRINT}" in said
    assert not any("ssh" in line for line in said)


def test_in_the_clear_it_warns(as_root):
    assert any("in the clear" in line for line in done(as_root, host="0.0.0.0", insecure_plaintext=True))
    assert not any("in the clear" in line for line in done(as_root, host="127.0.0.1"))


def test_only_groups_that_are_there_and_only_those_that_are_missing(machine, as_root):
    machine.groups = {"video"}
    machine.accounts["vitsearch"] = ["vitsearch"]
    done(as_root)
    assert machine.commands == ["usermod --append --groups video vitsearch", *START]


def test_again_is_an_upgrade_with_the_options_of_before(machine, as_root):
    done(as_root, host="0.0.0.0", insecure_plaintext=True, user="lab")
    first = machine.file(UNIT).read_text()
    machine.commands.clear()
    machine.download.write_bytes(b"version 2")
    done(as_root)
    assert machine.commands == ["systemctl stop vitsearch-agent.service", *START]
    assert machine.file(PROGRAM).read_bytes() == b"version 2"
    assert machine.file(UNIT).read_text() == first
    done(as_root, port=9000, host="127.0.0.1")
    assert "serve --host 127.0.0.1 --port 9000 " in machine.file(UNIT).read_text()
    assert "User=lab\n" in machine.file(UNIT).read_text()


def test_the_installed_program_installs_itself_again(machine, as_root):
    done(as_root)
    installed = machine.program._replace(archive=str(machine.file(PROGRAM)))
    done(managers.find(machine.root_user, installed, machine.system), port=9000)
    assert machine.file(PROGRAM).read_bytes() == b"version 1"
    assert "--port 9000" in machine.file(UNIT).read_text()


def test_a_package_that_pip_installed_stays_where_it_is(machine):
    program = machine.program._replace(python="/opt/vitsearch/venv/bin/python", archive=None)
    manager = managers.find(machine.root_user, program, machine.system)
    said = done(manager)
    assert "\nExecStart=/opt/vitsearch/venv/bin/python -m vitsearch_evaluators serve " in machine.file(UNIT).read_text()
    assert said[-1].endswith(
        "sudo /opt/vitsearch/venv/bin/python -m vitsearch_evaluators token --state /var/lib/vitsearch"
    )
    assert [step.describe() for step in manager.uninstall_steps()] == [
        "run     systemctl disable --now vitsearch-agent.service",
        f"remove  {UNIT}",
        "run     systemctl daemon-reload",
    ]


def test_a_source_tree_is_not_installed(machine):
    program = machine.program._replace(archive=None)
    absent = machine.system._replace(run=lambda argv: machine.run(argv)._replace(reason="ended with 1"))
    with pytest.raises(InvalidRequest, match="this package is not installed in /usr/bin/python3"):
        done(managers.find(machine.root_user, program, absent))


def test_without_root_it_is_a_service_of_the_person(machine, as_ada):
    said = done(as_ada)
    text = machine.file("/home/ada/.config/systemd/user/vitsearch-agent.service").read_text()
    assert "User=" not in text
    assert "Protect" not in text, "a person's manager may not"
    assert "WantedBy=default.target" in text
    assert "/home/ada/.local/share/vitsearch/vitsearch-agent.pyz serve" in text
    assert machine.file("/home/ada/.local/state/vitsearch").stat().st_mode & 0o777 == 0o700
    assert machine.commands == [line.replace("systemctl", "systemctl --user") for line in START]
    assert any("sudo loginctl enable-linger ada" in line for line in said)
    assert any("sudo usermod --append --groups video,render ada" in line for line in said)
    assert "sudo" not in said[-1]


def test_a_state_elsewhere_is_made_and_opened_to_the_service(machine, as_root):
    done(as_root, state="/data/my agent")
    assert "chown vitsearch: /data/my agent" in machine.commands
    assert machine.file("/data/my agent").stat().st_mode & 0o777 == 0o700
    text = machine.file(UNIT).read_text()
    assert 'ReadWritePaths="/data/my agent"\n' in text
    assert "StateDirectory" not in text


def test_a_folder_with_other_things_is_no_state(machine, as_root):
    machine.file("/data/photos").mkdir(parents=True)
    (machine.file("/data/photos") / "cat.jpg").touch()
    with pytest.raises(InvalidRequest, match="--state /data/photos holds other things"):
        done(as_root, state="/data/photos")
    assert machine.commands == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"port": 0}, "--port: a service has a port of its own"),
        ({"user": "root"}, "--user: expected the name of an unprivileged account"),
        ({"user": "a b"}, "--user: expected the name"),
        ({"tls_cert": "/etc/cert.pem"}, "--tls-cert and --tls-key go together"),
        ({"tls": True, "insecure_plaintext": True}, "--insecure-plaintext is the opposite"),
        ({"state": "/home/ada/state"}, "the service does not see /home/ada/state"),
        ({"token_file": "/tmp/token"}, "the service does not see /tmp/token"),
        ({"host": "a\nUser=root"}, "--host: .* cannot stand in a service's file"),
    ],
)
def test_what_could_not_run_is_refused_before_anything_is_done(machine, as_root, given, told):
    with pytest.raises(InvalidRequest, match=told):
        done(as_root, **given)
    assert machine.commands == []
    assert not machine.file("/opt").exists()


def test_a_python_in_a_home_is_refused(machine):
    program = machine.program._replace(needs=("/opt/venv/bin/python", "/home/ada/.pyenv/bin/python3.11"))
    with pytest.raises(InvalidRequest, match="the service does not see /home/ada/.pyenv/bin/python3.11"):
        done(managers.find(machine.root_user, program, machine.system))


def test_tls_without_openssl_is_told_now(machine, as_root):
    machine.missing = {"openssl"}
    with pytest.raises(InvalidRequest, match="openssl cannot be run: No such file"):
        done(as_root, host="0.0.0.0")
    machine.file(STATE).mkdir(parents=True)
    for name in ("lock", "tls.pem"):
        (machine.file(STATE) / name).touch()
    assert done(as_root, host="0.0.0.0")


def test_an_agent_that_does_not_start_leaves_its_last_words(machine, as_root):
    machine.last_words = "vitsearch-agent: /var/lib/vitsearch/config.json is not JSON"
    with pytest.raises(EvaluatorError, match="does not listen. journalctl -u .*:\n.*config.json is not JSON"):
        done(as_root)


def test_what_was_given_up_starts_again(machine, as_root):
    machine.last_words = "vitsearch-agent: cannot listen"
    with pytest.raises(EvaluatorError):
        done(as_root)
    told = [step.describe() for step in install_steps(as_root, {"port": 9000})]
    assert told[:2] == [f"run     systemctl stop {NAME}", f"run     systemctl reset-failed {NAME}"]


def test_an_agent_that_does_not_listen_is_not_waited_for_for_ever(machine, as_root):
    machine.silent = True
    with pytest.raises(EvaluatorError, match="does not listen"):
        done(as_root)
    assert 60 <= machine.time.now - 100 <= 61


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"port": "x", "fingerprint": null}', '{"port": 1, "fingerprint": "\\u001b"}']
)
def test_what_the_agents_account_wrote_is_not_believed(machine, as_root, text):
    real = machine.run

    def run(argv):
        answer = real(argv)
        if "restart" in argv:
            (machine.file(STATE) / "listening.json").write_text(text)
        return answer

    manager = managers.find(machine.root_user, machine.program, machine.system._replace(run=run))
    with pytest.raises(EvaluatorError) as caught:
        done(manager)
    assert "\x1b" not in str(caught.value)


def test_a_command_that_fails_ends_it_and_says_what_may_help(machine, as_ada):
    refused = machine.system._replace(run=lambda argv: machine.run(argv)._replace(reason="Failed to connect to bus"))
    with pytest.raises(EvaluatorError, match="daemon-reload: Failed to connect to bus; it needs a session"):
        done(managers.find(machine.ada, machine.program, refused))


def test_a_unit_that_somebody_else_wrote_is_left_alone(machine, as_root):
    machine.file(UNIT).parent.mkdir(parents=True)
    machine.file(UNIT).write_text("[Service]\nExecStart=/my/own\n")
    for act in (lambda: done(as_root), lambda: uninstall(as_root, True, print)):
        with pytest.raises(InvalidRequest, match="was not written by `vitsearch-agent install`"):
            act()
    assert machine.file(UNIT).read_text() == "[Service]\nExecStart=/my/own\n"
    assert machine.commands == []


def test_uninstalled_the_state_is_kept(machine, as_root):
    done(as_root)
    machine.commands.clear()
    said = []
    uninstall(as_root, False, said.append)
    assert machine.commands == ["systemctl disable --now vitsearch-agent.service", "systemctl daemon-reload"]
    assert not machine.file(UNIT).exists()
    assert not machine.file("/opt/vitsearch").exists()
    assert machine.file(STATE).exists()
    assert "is kept" in said[-1]


def test_purged_nothing_is_left(machine, as_root):
    done(as_root, state="/data/agent")
    uninstall(as_root, True, print)
    assert not machine.file("/data/agent").exists()
    assert "vitsearch" not in machine.accounts
    said = []
    uninstall(as_root, True, said.append)
    assert said == ["nothing is installed here"]


def test_purged_later_too(machine, as_root):
    done(as_root)
    uninstall(as_root, False, print)
    uninstall(as_root, True, print)
    assert not machine.file(STATE).exists()


def test_a_state_that_no_agent_had_is_not_purged(machine, as_root):
    machine.silent = True
    machine.file(STATE).mkdir(parents=True)
    (machine.file(STATE) / "config.json").write_text("{}")
    with pytest.raises(EvaluatorError):
        done(as_root)
    said = []
    uninstall(as_root, True, said.append)
    assert (machine.file(STATE) / "config.json").exists()
    assert said[-1] == f"{STATE} is kept: no agent has used it"


def test_a_state_that_is_a_file_is_told(machine, as_root):
    machine.file("/data").write_text("")
    with pytest.raises(InvalidRequest, match="--state /data: Not a directory"):
        done(as_root, state="/data")


def test_an_account_that_was_not_made_for_it_stays(machine, as_root):
    done(as_root, user="ada")
    uninstall(as_root, True, print)
    assert "ada" in machine.accounts


def test_what_is_in_the_way_of_the_program_stays(machine, as_root):
    done(as_root)
    (machine.file("/opt/vitsearch") / "venv").mkdir()
    uninstall(as_root, False, print)
    assert [path.name for path in machine.file("/opt/vitsearch").iterdir()] == ["venv"]


def test_what_would_be_done_is_told_and_not_done(machine, as_root):
    told = describe(install_steps(as_root, {}))
    assert f"copy    {machine.download} to {PROGRAM}" in told
    assert "    StateDirectory=vitsearch" in told
    assert told[-3:] == [f"run     {line}" for line in START]
    assert describe(uninstall_steps(as_root, True)) == []
    assert machine.commands == []
    assert not machine.file("/opt").exists()


def test_without_a_service_manager_it_says_what_to_do(machine):
    machine.file("/run/systemd/system").rmdir()
    with pytest.raises(InvalidRequest, match=r"no systemd runs this system.*/usr/bin/python3 .*.pyz serve"):
        managers.find(machine.root_user, machine.program, machine.system)


def test_a_mac(machine):
    manager = managers.find(machine.mac, machine.program, machine.system)
    done(manager, port=9000)
    plist = "/Users/ada/Library/LaunchAgents/vitsearch-agent.plist"
    assert machine.commands == [f"launchctl load -w {plist}"]
    done(manager)
    assert machine.commands[1:] == [f"launchctl unload {plist}", f"launchctl load -w {plist}"]
    assert "<string>9000</string>" in machine.file(plist).read_text()
    uninstall(manager, True, print)
    assert not machine.file("/Users/ada/Library/Application Support/vitsearch/state").exists()
    with pytest.raises(InvalidRequest, match="without root"):
        managers.find(machine.mac._replace(is_root=True), machine.program, machine.system)
