"""Core ML predicts on macOS only: these tests run with a module that stands for coremltools, but for the last one."""

import os
import sys

import pytest

from support.artifact_files import coreml, coreml_weights
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.runtimes import coreml as runtime_module
from vitsearch_agent.runtimes.coreml import CoreMlRuntime
from vitsearch_agent.testing import RuntimeTestCase


@pytest.fixture
def macos(monkeypatch):
    """The module that stands for coremltools, on a system that seems to be macOS."""
    pytest.importorskip("numpy")
    from support import fake_coremltools

    module = fake_coremltools.module()
    monkeypatch.setitem(sys.modules, "coremltools", module)
    monkeypatch.setattr(runtime_module, "_elsewhere", lambda: None)
    monkeypatch.setattr(fake_coremltools.MLModel, "refuses", "")
    return module


def write_pair(folder):
    for name, content in (("model.mlmodel", coreml()), ("model.bin", coreml_weights())):
        with open(os.path.join(str(folder), name), "wb") as stream:
            stream.write(content)
    return os.path.join(str(folder), "model.mlmodel")


def load(path, batch=None, **options):
    runtime = CoreMlRuntime()
    return runtime.load(path, runtime.check_options(options), 1, batch, {})


class TestCoreMl(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _macos(self, macos):
        self.macos = macos

    def make_runtime(self):
        return CoreMlRuntime()

    def make_model(self, folder):
        return write_pair(folder)

    def make_options(self):
        return {"compute_units": "cpu"}

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, 8), "float32")


@pytest.mark.parametrize(
    ("name", "units"),
    [("all", "ALL"), ("cpu", "CPU_ONLY"), ("cpu_and_gpu", "CPU_AND_GPU"), ("cpu_and_ane", "CPU_AND_NE")],
)
def test_compute_units_are_those_of_coremltools(macos, tmp_path, name, units):
    session = load(write_pair(tmp_path), compute_units=name)
    assert session._model.compute_units is macos.ComputeUnit[units]
    session.close()


def test_closing_a_session_deletes_its_package(macos, tmp_path):
    session = load(write_pair(tmp_path))
    package = session._model.path
    assert package.endswith(".mlpackage")
    assert os.path.exists(package)
    session.close()
    assert not os.path.exists(os.path.dirname(package))


def test_the_agent_offers_the_four_compute_units(macos):
    state = CoreMlRuntime().available()
    assert state.providers == ("all", "cpu", "cpu_and_gpu", "cpu_and_ane")
    assert (state.artifacts, state.precisions) == (("coreml",), ("fp32", "fp16", "int8"))


def test_a_model_that_core_ml_cannot_compile_is_refused_in_its_words(macos, tmp_path, monkeypatch):
    monkeypatch.setattr(macos.models.MLModel, "refuses", "unknown opset CoreML99")
    with pytest.raises(MeasurementFailed, match=r"coremltools 9.0 rejects the model: .*opset CoreML99") as caught:
        load(write_pair(tmp_path))
    assert caught.value.kind == "incompatible_artifact"


def test_a_failure_of_a_run_keeps_the_words_of_core_ml(macos, tmp_path):
    numpy = pytest.importorskip("numpy")
    session = load(write_pair(tmp_path))
    with pytest.raises(MeasurementFailed, match="Error computing NN outputs"):
        session.infer(numpy.full((1, 8), numpy.nan, "float32"))


def test_another_batch_than_that_of_the_program_is_refused(macos, tmp_path):
    with pytest.raises(MeasurementFailed, match="the model fixes batch 1 .*, but batch 2 was requested"):
        load(write_pair(tmp_path), batch=2)


def test_the_file_is_checked_before_core_ml_sees_it(macos, tmp_path):
    path = write_pair(tmp_path)
    (tmp_path / "model.mlmodel").write_bytes(coreml(file="/etc/passwd"))
    with pytest.raises(MeasurementFailed, match="/etc/passwd"):
        load(path)


def test_unknown_compute_units_are_refused():
    with pytest.raises(InvalidRequest, match="options.compute_units: 'tpu' is not one of 'all', 'cpu'"):
        CoreMlRuntime().check_options({"compute_units": "tpu"})


def test_the_reference_models_do_not_run_in_it():
    assert CoreMlRuntime().reference({"compute_units": "cpu"}) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML predicts on macOS")
def test_other_systems_are_refused_with_the_reason(tmp_path):
    state = CoreMlRuntime().available()
    assert not state.available
    assert state.reason == f"Core ML predicts on macOS only, and this is {sys.platform}"
    with pytest.raises(MeasurementFailed, match="Core ML predicts on macOS only") as caught:
        load(write_pair(tmp_path))
    assert caught.value.kind == "runtime_unavailable"


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML predicts on macOS only")
def test_core_ml_itself_predicts(tmp_path):
    numpy = pytest.importorskip("numpy")
    coremltools = pytest.importorskip("coremltools")
    from coremltools.converters.mil import Builder

    weight = numpy.linspace(-1, 1, 4 * 512, dtype="float32").reshape(4, 512)

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 512))], opset_version=coremltools.target.iOS17)
    def program(images):
        return Builder.linear(x=images, weight=weight, name="logits")

    model = coremltools.convert(program, convert_to="mlprogram", compute_precision=coremltools.precision.FLOAT32)
    (tmp_path / "model.mlmodel").write_bytes(model.get_spec().SerializeToString())
    with open(os.path.join(model.weights_dir, "weight.bin"), "rb") as stream:
        (tmp_path / "model.bin").write_bytes(stream.read())
    session = load(str(tmp_path / "model.mlmodel"), compute_units="cpu")
    images = numpy.ones((1, 512), "float32")
    assert numpy.allclose(session.infer(images), images @ weight.T, atol=1e-3)
    session.run()
    session.close()
