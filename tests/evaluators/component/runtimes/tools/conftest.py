import pytest

from support.trtexec_tool import FakeTool
from vitsearch_agent.base.onnx_writer import Value, model, node
from vitsearch_agent.runtimes.base import RuntimeContext
from vitsearch_agent.runtimes.tools.trtexec import TrtexecRuntime


@pytest.fixture
def tool(tmp_path):
    return FakeTool(tmp_path / "tensorrt")


@pytest.fixture
def equipped(tool, tmp_path, monkeypatch):
    """Make a runtime as the child has it: equipped(environment) -> TrtexecRuntime."""
    monkeypatch.chdir(tmp_path)

    def make(environment="one"):
        runtime = TrtexecRuntime()
        runtime.context = RuntimeContext(tool.path, str(tmp_path / "cache"), environment)
        return runtime

    return make


@pytest.fixture
def plain_onnx(tmp_path):
    """Write a model without the package onnx, which a Jetson Nano's Python lacks: plain_onnx(width=8) -> path."""

    def write(width=8, batch=1, name="image"):
        ends = Value(name, "float32", (batch, width)), Value("logits", "float32", (batch, width))
        path = tmp_path / f"{width}.onnx"
        path.write_bytes(model([node("Identity", [name], "logits")], [ends[0]], [ends[1]], 13, 7))
        return str(path)

    return write
