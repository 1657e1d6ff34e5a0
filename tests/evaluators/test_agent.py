import os
import signal
import subprocess
import sys

import pytest

from vitsearch_evaluators import agent as agent_module
from vitsearch_evaluators import procs
from vitsearch_evaluators.agent import AgentSettings
from vitsearch_evaluators.errors import InvalidRequest, TransferFailed


def start(*arguments):
    command = [sys.executable, "-m", "vitsearch_evaluators", "serve", *arguments]
    environment = procs.with_package_path(dict(os.environ))
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
