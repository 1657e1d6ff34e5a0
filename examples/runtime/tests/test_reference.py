"""The contract that every runtime keeps, and one job of a real agent."""

import os
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnx.helper
import onnxruntime
import pytest

from my_runtimes.reference import ReferenceRuntime
from vitsearch_agent import EmbeddedAgent
from vitsearch_agent.testing import RuntimeTestCase
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS


def write_model(folder: str) -> str:
    """Write a classifier of images of 3 x 8 x 8 pixels into 5 classes."""
    weights = numpy.random.RandomState(0).standard_normal((192, 5)).astype("float32")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["images"], ["pixels"]),
            onnx.helper.make_node("MatMul", ["pixels", "weights"], ["scores"]),
            onnx.helper.make_node("Tanh", ["scores"], ["logits"]),
        ],
        "classifier",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ("batch", 3, 8, 8))],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ("batch", 5))],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    path = os.path.join(folder, "model.onnx")
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


class TestReference(RuntimeTestCase):
    def make_runtime(self) -> ReferenceRuntime:
        return ReferenceRuntime()

    def make_model(self, folder: str) -> str:
        return write_model(folder)

    def make_images(self) -> Any:
        return numpy.ones((1, 3, 8, 8), "float32")


def test_it_computes_what_onnxruntime_computes(tmp_path: Path) -> None:
    path = write_model(str(tmp_path))
    images = numpy.random.RandomState(1).standard_normal((1, 3, 8, 8)).astype("float32")
    runtime = ReferenceRuntime()
    logits = runtime.load(path, runtime.check_options({}), threads=1, batch=1, shapes={}).infer(images)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"images": images})
    assert logits == pytest.approx(expected, abs=1e-6)


def test_an_agent_measures_with_it(tmp_path: Path) -> None:
    protocol = ONE_PROCESS._replace(id="test-1", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0)
    with EmbeddedAgent(str(tmp_path / "state")) as agent:
        client = agent.client("tests")
        measurement = client.measure(write_model(str(tmp_path)), "onnx_reference", protocol=protocol)
    assert measurement.latency_ms.p50 > 0
