import os
import signal
import subprocess
import sys

import pytest

from vitsearch_evaluators import agent as agent_module
from vitsearch_evaluators import procs
from vitsearch_evaluators.errors import EvaluatorError


def start(*arguments):
    command = [sys.executable, "-m", "vitsearch_evaluators", "serve", *arguments]
    environment = procs.with_package_path(dict(os.environ))
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "board.local"])
def test_a_network_address_needs_a_token(host):
    with pytest.raises(EvaluatorError, match="--token-file"):
        agent_module.refuse_open_door(host, None)
    agent_module.refuse_open_door(host, "token")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_does_not(host):
    agent_module.refuse_open_door(host, None)


def test_serve_refuses_the_open_door(tmp_path):
    with start("--host", "0.0.0.0", "--state", str(tmp_path)) as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert b"--token-file" in error


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
