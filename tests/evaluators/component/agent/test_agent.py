import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from vitsearch_evaluators.agent import agent as agent_module
from vitsearch_evaluators.agent.agent import AgentSettings, tell
from vitsearch_evaluators.base import processes
from vitsearch_evaluators.cli.app import WRONG_CONFIGURATION
from vitsearch_evaluators.errors import InvalidRequest, TransferFailed

PIN = "sha256:" + "ab" * 32


def start(*arguments):
    command = [sys.executable, "-m", "vitsearch_evaluators", "serve", *arguments]
    environment = processes.with_package_path(dict(os.environ))
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def settings(**more):
    return AgentSettings("state", **more)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "board.local", ""])
def test_a_network_is_encrypted_unless_somebody_says_otherwise(host):
    assert agent_module.wants_tls(settings(host=host))
    assert not agent_module.wants_tls(settings(host=host, insecure_plaintext=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_is_encrypted_when_asked(host):
    assert not agent_module.wants_tls(settings(host=host))
    assert agent_module.wants_tls(settings(host=host, tls=True))
    assert agent_module.wants_tls(settings(host=host, tls_cert="cert", tls_key="key"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tls_cert": "cert"}, "go together"),
        ({"tls_key": "key"}, "go together"),
        ({"tls": True, "insecure_plaintext": True}, "opposite"),
    ],
)
def test_contradictions_are_refused(more, message):
    with pytest.raises(InvalidRequest, match=message):
        agent_module.wants_tls(settings(**more))


def test_without_openssl_no_network_is_served(tmp_path, monkeypatch):
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
def test_programs_that_could_have_no_effect_are_told_at_once(tmp_path, runtimes, message):
    (tmp_path / "config.json").write_text(json.dumps({"runtimes": runtimes}))
    with start("--exit-with-stdin", "--state", str(tmp_path)) as process:
        _, error = process.communicate()
    assert process.returncode == WRONG_CONFIGURATION
    assert message in error.decode()


def test_one_agent_for_one_state(agent, tmp_path):
    with start("--state", str(tmp_path / "state")) as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert b"another agent uses" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly_and_the_port_file_was_whole(tmp_path, until, number):
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


def test_limits_of_the_configuration_hold(serve_agent, tmp_path):
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


@pytest.mark.parametrize(
    ("host", "fingerprint", "told"),
    [
        ("127.0.0.1", None, ["ssh -N -L 8470:127.0.0.1:8470 board", "vitsearch devices add http://127.0.0.1:8470"]),
        ("0.0.0.0", PIN, [f"vitsearch devices add https://board:8470 --fingerprint {PIN}"]),
        ("fe80::1", PIN, [f"vitsearch devices add https://[fe80::1]:8470 --fingerprint {PIN}"]),
    ],
)
def test_each_start_says_how_the_device_is_made_known(monkeypatch, caplog, host, fingerprint, told):
    """Not the first alone: who tried it on loopback opens it to the network at the second."""
    monkeypatch.setattr(socket, "gethostname", lambda: "board")
    settings = AgentSettings("state", host=host)
    with caplog.at_level(logging.INFO):
        tell(settings, 8470, fingerprint)
        for line in told:
            assert line in caplog.text
        caplog.clear()
        tell(settings._replace(token_file="elsewhere"), 8470, fingerprint)
    assert "devices add" not in caplog.text


def test_an_agent_that_cannot_measure_any_more_ends_and_says_so(tmp_path):
    """Whoever supervises it starts it again; one that stayed would keep its clients waiting for ever."""
    program = (
        "import sys; from vitsearch_evaluators.cli import app; from vitsearch_evaluators.queue import queue\n"
        "def claim(self, timeout_s): raise RuntimeError('unforeseen')\n"
        "queue.JobQueue.claim = claim; sys.exit(app.main(['serve', '--state', sys.argv[1]]))"
    )
    environment = processes.with_package_path(dict(os.environ))
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=120)
    assert ended.returncode == 2
    assert b"RuntimeError: unforeseen" in ended.stderr
    assert b"vitsearch-agent: the thread that measures could not go on" in ended.stderr
