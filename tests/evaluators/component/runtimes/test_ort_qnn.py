"""The provider of onnxruntime-qnn, whose library imitates the NPU on x86-64."""

import importlib.util
import os
import struct
import types

import pytest

from vitsearch_agent.base.onnx_writer import Value, model, node, tensor
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.runtimes import ort_qnn
from vitsearch_agent.runtimes.ort import OrtRuntime
from vitsearch_agent.testing import RuntimeTestCase
from vitsearch_agent.wire.job_spec import JobSpec
from vitsearch_agent.wire.measure_protocol import SCREEN

pytest.importorskip("onnxruntime")
OPTIONS = {"provider": ort_qnn.PROVIDER}
WIDTH = 8
needs_package = pytest.mark.skipif(
    importlib.util.find_spec(ort_qnn.PACKAGE) is None, reason="onnxruntime-qnn is not installed"
)


def chain(*operators):
    """An ONNX file of operators in a row; a MatMul has constant weights."""
    weights = tensor("w", "float32", (WIDTH, WIDTH), struct.pack(f"{WIDTH * WIDTH}f", *[0.125] * WIDTH * WIDTH))
    names = ["image", *(f"t{index}" for index in range(len(operators) - 1)), "y"]
    nodes = [
        node(operator, [names[index], "w"] if operator == "MatMul" else [names[index]], names[index + 1])
        for index, operator in enumerate(operators)
    ]
    ends = Value("image", "float32", (1, WIDTH)), Value("y", "float32", (1, WIDTH))
    return model(nodes, [ends[0]], [ends[1]], 17, 8, [weights])


def load(content, folder):
    path = folder / "model.onnx"
    path.write_bytes(content)
    runtime = OrtRuntime()
    return runtime.load(str(path), runtime.check_options(OPTIONS), 1, 1, {})


@needs_package
class TestQnn(RuntimeTestCase):
    def make_runtime(self):
        return OrtRuntime()

    def make_model(self, folder):
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as stream:
            stream.write(chain("MatMul", "Relu"))
        return path

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, WIDTH), "float32")

    def make_options(self):
        return OPTIONS


@needs_package
def test_the_provider_is_listed_once_before_and_after_a_model_was_loaded(tmp_path):
    before = OrtRuntime().available().providers
    load(chain("MatMul"), tmp_path)
    assert OrtRuntime().available().providers == before
    assert before.count(ort_qnn.PROVIDER) == 1


@needs_package
def test_nothing_is_reported_as_left_where_the_npu_computes_all(tmp_path):
    assert load(chain("MatMul", "Relu"), tmp_path).reported_options == {"cpu_nodes": 0, "cpu_operators": ""}


@needs_package
def test_operators_that_the_npu_lacks_are_named_with_their_number(tmp_path):
    session = load(chain("MatMul", "Sinh", "MatMul", "Sinh", "Cosh", "MatMul"), tmp_path)
    assert session.reported_options == {"cpu_nodes": 3, "cpu_operators": "Sinh 2, Cosh 1"}


@needs_package
def test_a_model_of_which_the_npu_computes_nothing_is_refused(tmp_path):
    with pytest.raises(MeasurementFailed, match="takes no node of the model; onnxruntime fell back to the CPU"):
        load(chain("Sinh", "Cosh"), tmp_path)


def test_without_the_package_the_provider_is_missing_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(ort_qnn, "PACKAGE", "no_such_package")
    assert ort_qnn.PROVIDER not in OrtRuntime().available().providers
    with pytest.raises(MeasurementFailed, match="this onnxruntime has no QNNExecutionProvider; it has "):
        load(chain("MatMul"), tmp_path)


def test_an_onnxruntime_without_plugins_lists_no_npu():
    assert not ort_qnn.is_installed(types.SimpleNamespace())


@pytest.mark.parametrize(
    ("machine", "imitated"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False), ("ARM64", False)]
)
def test_only_an_arm_processor_can_have_the_npu(machine, imitated):
    assert ort_qnn.is_emulated(machine) == imitated


@pytest.mark.parametrize(("provider", "machine", "slowdown"), [
    ("QNNExecutionProvider", "x86_64", 1.0),
    ("QNNExecutionProvider", "aarch64", None),
    ("CPUExecutionProvider", "x86_64", None),
])  # fmt: skip
def test_a_job_on_an_imitated_npu_is_one_of_an_emulated_device(provider, machine, slowdown, monkeypatch):
    monkeypatch.setattr(ort_qnn.platform, "machine", lambda: machine)
    spec = JobSpec("measure", (), "onnxruntime", {"provider": provider}, SCREEN, 0)
    assert JobContext("job", "device", "environment", 1, 0.0).of_job(spec).slowdown == slowdown


def test_a_process_with_the_npu_is_never_forked():
    assert not OrtRuntime().survives_fork(OPTIONS)
