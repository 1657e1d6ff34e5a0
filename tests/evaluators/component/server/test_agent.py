import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.cli.app import WRONG_CONFIGURATION
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.errors import DeviceUnreachable, InvalidRequest, TransferFailed
from vitsearch_agent.server import agent as agent_module
from vitsearch_agent.server.agent import AgentSettings, log_address

PIN = "sha256:" + "ab" * 32


def start(*arguments):
    command = [sys.executable, "-m", "vitsearch_agent", "serve", *arguments]
    environment = processes.with_package_path(dict(os.environ))
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def settings(**more):
    return AgentSettings("state", **more)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "board.local", ""])
def test_a_network_gets_tls_unless_plain_text_is_requested(host):
    assert agent_module.wants_tls(settings(host=host))
    assert not agent_module.wants_tls(settings(host=host, insecure_plaintext=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_gets_tls_on_request(host):
    assert not agent_module.wants_tls(settings(host=host))
    assert agent_module.wants_tls(settings(host=host, tls=True))
    assert agent_module.wants_tls(settings(host=host, tls_cert="cert", tls_key="key"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tls_cert": "cert"}, "must be given together"),
        ({"tls_key": "key"}, "must be given together"),
        ({"tls": True, "insecure_plaintext": True}, "cannot be combined"),
    ],
)
def test_contradictory_tls_options_are_refused(more, message):
    with pytest.raises(InvalidRequest, match=message):
        agent_module.wants_tls(settings(**more))


def test_without_openssl_the_agent_does_not_start_on_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with start("--host", "0.0.0.0", "--state", str(tmp_path)) as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert b"--tls-cert and --tls-key" in error


@pytest.mark.parametrize(
    ("runtimes", "message"),
    [
        ({"onxruntime": {}}, "did you mean 'onnxruntime'"),
        ({"onnxruntime": {"tool": "/bin/true"}}, "onnxruntime is not a tool"),
    ],
)
def test_programs_without_effect_are_refused_at_the_start(tmp_path, runtimes, message):
    (tmp_path / "config.json").write_text(json.dumps({"runtimes": runtimes}))
    with start("--exit-with-stdin", "--state", str(tmp_path)) as process:
        _, error = process.communicate()
    assert process.returncode == WRONG_CONFIGURATION
    assert message in error.decode()


def test_a_second_agent_on_one_state_is_refused(agent, tmp_path):
    with start("--state", str(tmp_path / "state")) as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert b"another agent uses" in error


def test_a_state_folder_that_others_can_read_becomes_private(serve_agent, tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served").chmod(0o755)
    served = serve_agent()
    assert stat.S_IMODE(os.stat(served.state).st_mode) == 0o700
    assert (
        f"the mode of the state folder {served.state} was 0755; it is 0700 now, because a token is in it"
        in served.logged
    )


def test_a_folder_that_all_users_share_is_refused(tmp_path):
    tmp_path.chmod(0o1777)
    with start("--exit-with-stdin", "--state", str(tmp_path)) as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert f"--state {tmp_path}: its mode is 1777, so that all users share it; name another one" in error.decode()
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_agent_and_the_port_file_is_complete(tmp_path, until, number):
    import json

    port_file = tmp_path / "port.json"
    with start("--state", str(tmp_path / "state"), "--port-file", str(port_file)) as process:
        until(port_file.exists)
        content = json.loads(port_file.read_text())
        assert content["pid"] == process.pid
        assert content["port"] > 0
        assert len(content["device_id"]) == 32
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 0


def test_the_limits_of_the_configuration_hold(serve_agent, tmp_path):
    served = serve_agent(config={"limits": {"max_blob_mb": 1, "quota_mb": 2}})
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"model-{number}")
        paths[-1].write_bytes(bytes([number]) * 900_000)
    (tmp_path / "large").write_bytes(b"x" * 1_100_000)
    with served.client() as client:
        assert client.device().max_blob_bytes == 10**6
        with pytest.raises(TransferFailed) as caught:
            client.upload(str(tmp_path / "large"))
        assert caught.value.http_status == 413
        kept = [client.upload(str(path)) for path in paths]
    assert set(os.listdir(os.path.join(served.state, "blobs"))) == set(kept[1:])


def test_a_job_that_asks_for_more_time_than_the_device_allows_is_refused(serve_agent, blob, tiny_protocol):
    served = serve_agent(config={"limits": {"job_max_s": 100}})
    with served.client(owner="study") as client:
        with pytest.raises(
            InvalidRequest, match=r"120 s; this device allows 100 s .limits.job_max_s.*lower .* timeout_s"
        ):
            client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol._replace(timeout_s=120.0))
        assert client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol._replace(timeout_s=60.0)).latency_ms.n == 11


@pytest.mark.parametrize(
    ("host", "fingerprint", "lines"),
    [
        ("127.0.0.1", None, ["ssh -N -L 8470:127.0.0.1:8470 board", "vitsearch devices add http://127.0.0.1:8470"]),
        ("0.0.0.0", PIN, [f"vitsearch devices add https://board:8470 --fingerprint {PIN}"]),
        ("fe80::1", PIN, [f"vitsearch devices add https://[fe80::1]:8470 --fingerprint {PIN}"]),
    ],
)
def test_each_start_logs_how_to_register_the_device(monkeypatch, caplog, host, fingerprint, lines):
    """Not only the first start: an agent that was tried on loopback may listen on the network later."""
    monkeypatch.setattr(socket, "gethostname", lambda: "board")
    settings = AgentSettings("state", host=host)
    with caplog.at_level(logging.INFO):
        log_address(settings, 8470, fingerprint)
        for line in lines:
            assert line in caplog.text
        caplog.clear()
        log_address(settings._replace(token_file="elsewhere"), 8470, fingerprint)
    assert "devices add" not in caplog.text


def test_an_agent_whose_measuring_thread_failed_ends_with_an_error(tmp_path):
    """Its supervisor starts it again; an agent without the thread would let its clients wait for ever."""
    program = (
        "import sys; from vitsearch_agent.cli import app; from vitsearch_agent.queue import job_queue\n"
        "def claim(self, timeout_s): raise RuntimeError('unexpected')\n"
        "job_queue.JobQueue.claim = claim; sys.exit(app.main(['serve', '--state', sys.argv[1]]))"
    )
    environment = processes.with_package_path(dict(os.environ))
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=120)
    assert ended.returncode == 2
    assert b"RuntimeError: unexpected" in ended.stderr
    assert b"vitsearch-agent: the measuring thread failed" in ended.stderr


def test_what_an_agent_writes_is_for_its_user_alone(tmp_path, blob, tiny_protocol):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    before = os.umask(0)
    try:
        with EmbeddedAgent(str(state)) as agent, agent.client("test") as client:
            client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
            assert os.stat(str(state / "token")).st_mode & 0o077 == 0
    finally:
        os.umask(before)
    assert state.stat().st_mode & 0o077 == 0, "nobody else gets at what is in it"


def test_a_state_folder_in_which_everybody_may_write_is_refused(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    with pytest.raises(DeviceUnreachable, match="everybody may write in it \\(mode 777\\)"):
        EmbeddedAgent(str(state)).__enter__()
