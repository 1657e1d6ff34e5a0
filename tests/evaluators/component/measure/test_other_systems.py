"""The agent on a system other than Linux, simulated: no /proc, no /sys, no prctl, no affinity.

It was not run on macOS itself.
"""

import json
import os
import subprocess
import sys

import pytest

from support import AGENT_HOME
from vitsearch_agent.base.tokens import read_tokens
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.wire.measure_protocol import SCREEN

# Python imports this first. It hides files only from the agent's own calls; the interpreter itself is unchanged.
SITE = """
import builtins, io, os, sys

sys.platform = "darwin"
for name in [name for name in dir(os) if name.startswith("sched_")]:
    delattr(os, name)


def hidden(real):
    def call(path, *arguments, **more):
        if isinstance(path, str) and path.startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, *arguments, **more)
    return call


builtins.open = io.open = hidden(open)
os.open, os.listdir, os.scandir = hidden(os.open), hidden(os.listdir), hidden(os.scandir)
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    return dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), AGENT_HOME]))


@pytest.mark.long
def test_every_figure_is_measured_or_has_a_reason(environment, blob):
    command = [sys.executable, "-m", "vitsearch_agent", "measure", blob, "--runtime", "noop", "--json"]
    measurement = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    assert measurement["latency_ms"]["n"] >= measurement["processes"] * SCREEN.min_runs
    assert measurement["peak_memory_mb"] is measurement["swap_mb"] is measurement["temperature"] is None
    for name, value in measurement.items():
        assert value is not None or measurement["reasons"][name], name
    assert measurement["reasons"]["contention"]


def test_an_agent_serves_and_measures(environment, blob, tmp_path, tiny_protocol, until):
    port_file = tmp_path / "port.json"
    command = [sys.executable, "-m", "vitsearch_agent", "serve", "--exit-with-stdin"]
    command += ["--state", str(tmp_path / "state"), "--port-file", str(port_file)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        until(lambda: port_file.exists() or process.poll() is not None, "the agent listens")
        url = f"http://127.0.0.1:{json.loads(port_file.read_text())['port']}"
        (token,) = read_tokens(str(tmp_path / "state" / "token"))
        with DeviceClient(url, token) as client:
            assert client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).latency_ms.n == 11
            assert client.device().fingerprint["affinity"] is None
        process.stdin.close()
        assert process.wait() == 0
