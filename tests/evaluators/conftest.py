"""Fixtures with real agents in real processes. Timeouts are safety nets; no test asserts them."""

import glob
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from support.artifact_files import tflite
from support.faulty_site import install_faults
from vitsearch_agent.base import processes, tokens
from vitsearch_agent.client.client import Backoff, DeviceClient
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

TIMEOUT_S = 120.0


def wait_until(condition, what="a condition"):
    """Poll until `condition()` is true and return its value."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {TIMEOUT_S:g} s for {what}")


@pytest.fixture
def until():
    return wait_until


@pytest.fixture(scope="session")
def tiny_protocol():
    """The shortest measurement that gives a median."""
    return ONE_PROCESS._replace(
        id="test-1", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0, timeout_s=TIMEOUT_S
    )


@pytest.fixture(scope="session")
def fuzz():
    """fuzz(examples): settings of hypothesis for a test with many inputs, the same in every run."""
    hypothesis = pytest.importorskip("hypothesis")

    def settings(examples):
        return hypothesis.settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
            suppress_health_check=list(hypothesis.HealthCheck),
        )

    return settings


@pytest.fixture
def blob(tmp_path):
    """A file that is not a model; the runtimes `noop` and `faults` accept it."""
    path = tmp_path / "blob.bin"
    path.write_bytes(os.urandom(900_000))
    return str(path)


@pytest.fixture
def notes(tmp_path):
    """The folder to which the `faults` runtime may write, by the configuration of the agent in `tmp_path / "state"`."""
    folder, state = tmp_path / "notes", tmp_path / "state"
    folder.mkdir()
    if not state.exists():
        state.mkdir(mode=0o700)
        (state / "config.json").write_text(json.dumps({"runtimes": {"faults": {"writable": [str(folder)]}}}))
    return folder


@pytest.fixture
def faulty_environment(tmp_path, monkeypatch, notes):
    """Install the `faults` runtime for agents that start afterwards."""
    return install_faults(tmp_path, monkeypatch)


@pytest.fixture
def agent(tmp_path):
    with EmbeddedAgent(str(tmp_path / "state")) as running:
        yield running


@pytest.fixture(scope="module")
def module_agent(tmp_path_factory):
    """One agent for a whole module: for tests that neither stop it nor count what it holds."""
    with EmbeddedAgent(str(tmp_path_factory.mktemp("module_agent") / "state")) as running:
        yield running


@pytest.fixture
def faulty_agent(tmp_path, faulty_environment):
    with EmbeddedAgent(str(tmp_path / "state")) as running:
        yield running


class Served:
    """An agent started by `vitsearch-agent serve`, on loopback unless the options change that."""

    def __init__(self, state, *options, program=("-m", "vitsearch_agent")):
        self.state = str(state)
        self.log = self.state + ".log"
        port_file = self.state + ".port.json"
        command = [sys.executable, *program, "serve", "--exit-with-stdin", "--state", self.state]
        command += ["--port-file", port_file, *options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=log, env=processes.with_package_path(dict(os.environ))
            )
        wait_until(lambda: os.path.exists(port_file) or self.process.poll() is not None, "an agent that listens")
        assert self.process.poll() is None, self.logged
        with open(port_file) as stream:
            where = json.load(stream)
        os.remove(port_file)
        self.port, self.fingerprint = where["port"], where["fingerprint"]
        self.url = f"{'https' if self.fingerprint else 'http'}://127.0.0.1:{self.port}"
        self.token_file = os.path.join(self.state, tokens.FILE_NAME)

    @property
    def logged(self):
        with open(self.log) as stream:
            return stream.read()

    @property
    def token(self):
        return tokens.read_tokens(self.token_file)[0]

    def client(self, **more):
        settings = {"token": self.token, "fingerprint": self.fingerprint, "backoff": QUICK, "deadline_s": TIMEOUT_S}
        return DeviceClient(self.url, **dict(settings, **more))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def serve_agent(tmp_path):
    """serve_agent(*options, config={}, **more) -> Served, which ends with the test."""
    served = []

    def start(*options, config=None, state=tmp_path / "served", **more):
        if config is not None:
            state.mkdir()
            (state / "config.json").write_text(json.dumps(config))
        served.append(Served(state, *options, **more))
        return served[-1]

    yield start
    for agent in served:
        agent.close()


QUICK = Backoff(first_s=0.02, max_s=0.2)


@pytest.fixture
def client(agent):
    with agent.client("study", backoff=QUICK, deadline_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def faulty_client(faulty_agent):
    with faulty_agent.client("study", backoff=QUICK, deadline_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def ask(agent):
    """Send one raw request: ask(method, path, body, headers) -> (status, JSON, headers)."""
    return lambda *arguments, **more: raw_request(agent.url, agent.token, *arguments, **more)


def raw_request(url, token, method, path, body=None, headers=None):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    every = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, path, content, dict(every, **(headers or {})))
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data) if data else None, response.headers
    finally:
        connection.close()


def find_python(version):
    """Return the path of Python "3.6", "3.8", ...; without one skip the test, but fail in CI."""
    candidates = os.environ.get("VITSEARCH_PYTHONS", "").split(os.pathsep)
    candidates += [shutil.which(f"python{version}") or ""]
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    candidates += sorted(glob.glob(os.path.join(root, "versions", version + ".*", "bin", "python")))
    candidates.append(sys.executable)
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    for python in filter(os.path.exists, candidates):
        answer = subprocess.run([python, "-I", "-c", question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if answer.stdout.decode().strip() == version:
            return python
    if os.environ.get("CI"):
        pytest.fail(f"CI needs a Python {version}; name it in VITSEARCH_PYTHONS")
    return pytest.skip(f"no Python {version} on this machine; name one in VITSEARCH_PYTHONS")


@pytest.fixture
def python_of():
    return find_python


@pytest.fixture
def tiny_tflite(tmp_path):
    """The path of a TFLite file that the agent accepts."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite())
    return str(path)


@pytest.fixture
def tiny_onnx(tmp_path):
    """Write an ONNX model: tiny_onnx(batch="batch") -> path."""
    onnx = pytest.importorskip("onnx")
    numpy = pytest.importorskip("numpy")

    def write(batch="batch", name="tiny.onnx", external=False):
        helper, tensor = onnx.helper, onnx.TensorProto
        weight = onnx.numpy_helper.from_array(numpy.ones((8, 4), dtype="float32"), "weight")
        if external:
            weight.ClearField("raw_data")
            weight.data_location = tensor.EXTERNAL
            entry = weight.external_data.add()
            entry.key, entry.value = "location", "../../secret"
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["image", "weight"], ["logits"])],
            "tiny",
            [helper.make_tensor_value_info("image", tensor.FLOAT, [batch, 8])],
            [helper.make_tensor_value_info("logits", tensor.FLOAT, [batch, 4])],
            [weight],
        )
        opsets = [helper.make_opsetid("", 13)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=7)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return str(path)

    return write
