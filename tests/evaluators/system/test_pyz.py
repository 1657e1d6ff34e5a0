"""The agent as a single file, under the Python versions of devices."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

from support import REPOSITORY
from support.marks import long
from vitsearch_agent.base.tokens import read_tokens
from vitsearch_agent.client.client import DeviceClient

TOOL = Path(REPOSITORY, "tools", "make_agent_pyz.py")


@pytest.fixture
def pyz(tmp_path):
    path = tmp_path / "vitsearch-agent.pyz"
    _tool().build(path)
    return str(path)


def _tool():
    spec = importlib.util.spec_from_file_location("make_agent_pyz", str(TOOL))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.mark.parametrize("version", ["3.6", "3.13", *long("3.8", "3.11")])
def test_measures_and_returns_its_exit_code(version, pyz, python_of, blob, tmp_path, environment):
    # The path is relative, and the measuring child starts in another folder.
    command = [python_of(version), os.path.basename(pyz), "measure", blob, "--runtime", "noop"]
    result = subprocess.run([*command, "--json"], env=environment, cwd=str(tmp_path), stdout=subprocess.PIPE)
    assert result.returncode == 0
    assert json.loads(result.stdout)["latency_ms"]["n"] >= 24
    wrong = subprocess.run([*command, "--option", "x=1"], env=environment, cwd=str(tmp_path), stderr=subprocess.PIPE)
    assert wrong.returncode == 2
    assert b"noop has no such option" in wrong.stderr


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.6", *long("3.11", "3.13")])
def test_serves(version, pyz, python_of, blob, tmp_path, tiny_protocol, environment, until):
    port_file = tmp_path / "port.json"
    command = [python_of(version), pyz, "serve", "--exit-with-stdin", "--state", str(tmp_path / "state")]
    command += ["--port-file", str(port_file)]
    with subprocess.Popen(command, env=environment, cwd="/", stdin=subprocess.PIPE) as process:
        until(lambda: port_file.exists() or process.poll() is not None, "an agent that listens")
        url = f"http://127.0.0.1:{json.loads(port_file.read_text())['port']}"
        (token,) = read_tokens(str(tmp_path / "state" / "token"))
        with DeviceClient(url, token) as client:
            assert client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).latency_ms.n == 11
        process.stdin.close()
        assert process.wait() == 0


MANY_AT_ONCE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
sys.setswitchinterval(1e-6)
from vitsearch_agent import artifacts, runtimes
from vitsearch_agent.errors import MeasurementFailed

gate = threading.Barrier(8)
outcomes = []

def load(kind, name):
    gate.wait()
    try:
        runtimes.create(name)
        artifacts.inspect(kind, {"model.onnx": sys.argv[2], "model.tflite": sys.argv[2]})
    except MeasurementFailed:
        outcomes.append("refused")
    except BaseException as error:
        outcomes.append(repr(error))

pairs = [("onnx", "onnxruntime"), ("tflite", "trtexec")] * 4
threads = [threading.Thread(target=load, args=pair) for pair in pairs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(set(outcomes)))
"""


@pytest.mark.parametrize("version", ["3.6", *long("3.8", "3.11", "3.13")])
def test_concurrent_first_requests_are_all_served(version, pyz, python_of, blob, environment):
    """Several threads import the same modules for the first time at once."""
    command = [python_of(version), "-c", MANY_AT_ONCE, pyz, blob]
    outcomes = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert outcomes.decode().strip() == "['refused']"


def test_equal_sources_make_equal_files(pyz, tmp_path):
    again = tmp_path / "again.pyz"
    _tool().build(again)
    assert again.read_bytes() == Path(pyz).read_bytes()
