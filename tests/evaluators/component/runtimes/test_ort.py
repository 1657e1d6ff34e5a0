import os
import shutil

import pytest

from support.artifact_files import added_row, constant, identity
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.runtimes.ort import OrtRuntime
from vitsearch_agent.testing import RuntimeTestCase

pytest.importorskip("onnxruntime")


class TestOrt(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _model(self, tiny_onnx):
        self.model = tiny_onnx()

    def make_runtime(self):
        return OrtRuntime()

    def make_model(self, folder):
        return shutil.copy(self.model, os.path.join(folder, "model.onnx"))

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, 8), "float32")

    def make_options(self):
        return {"graph_optimization_level": "basic", "disabled_optimizers": ["MatMulAddFusion"]}


def load(path, batch=None, shapes=None, **options):
    runtime = OrtRuntime()
    return runtime.load(path, runtime.check_options(options), 1, batch, shapes or {})


@pytest.fixture
def written(tmp_path):
    """written(content) -> path of an ONNX file."""

    def write(content):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        return str(path)

    return write


def test_a_fixed_batch_is_the_batch_and_no_other_is_accepted(tiny_onnx):
    session = load(tiny_onnx(batch=2))
    session.run()
    assert (session.batch, session.shapes) == (2, {"image": (2, 8)})
    with pytest.raises(MeasurementFailed, match="the model fixes batch 2 .*, but batch 1 was requested"):
        load(tiny_onnx(batch=2), batch=1)


def test_an_open_dimension_other_than_the_batch_needs_a_shape(written):
    path = written(identity(shape=("batch", 3, "height", "width")))
    with pytest.raises(MeasurementFailed, match="give, for example, --shape x=1,3,224,224$") as caught:
        load(path)
    assert caught.value.kind == "incompatible_artifact"
    session = load(path, shapes={"x": (2, 3, 64, 48)})
    session.run()
    assert (session.batch, session.shapes) == (2, {"x": (2, 3, 64, 48)})


def test_an_input_without_declared_dimensions_needs_a_shape_and_a_scalar_does_not(written):
    path = written(identity(shape=None))
    with pytest.raises(MeasurementFailed, match="input 'x' of unknown shape; give, for example, --shape x=1,3,224,224"):
        load(path)
    session = load(path, shapes={"x": (3, 5)})
    session.run()
    assert (session.batch, session.shapes) == (3, {"x": (3, 5)})
    assert load(written(identity(shape=()))).shapes == {"x": ()}


def test_a_model_without_inputs_runs(written):
    session = load(written(constant()))
    session.run()
    assert (session.batch, session.shapes) == (1, {})


def test_a_refusal_at_run_time_is_an_incompatible_artifact(written):
    session = load(written(added_row(("batch", "width"))), shapes={"x": (1, 5)})
    with pytest.raises(MeasurementFailed, match="onnxruntime refuses to run the model: .*broadcast") as caught:
        session.run()
    assert caught.value.kind == "incompatible_artifact"


def test_an_input_of_an_unknown_type_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.STRING, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=7), str(tmp_path / "text.onnx"))
    with pytest.raises(MeasurementFailed, match="tensor\\(string\\)"):
        load(str(tmp_path / "text.onnx"))


def test_external_data_is_refused_before_it_is_read(tiny_onnx):
    with pytest.raises(MeasurementFailed, match="external files") as caught:
        load(tiny_onnx(external=True))
    assert caught.value.kind == "incompatible_artifact"


def test_a_missing_provider_is_unavailable(tiny_onnx):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(MeasurementFailed, match="has no CUDAExecutionProvider") as caught:
        load(tiny_onnx(), provider="CUDAExecutionProvider")
    assert caught.value.kind == "runtime_unavailable"


@pytest.mark.parametrize(
    "options",
    [
        {"provider": "/tmp/evil.so"},
        {"custom_op_library": "x.so"},
        {"graph_optimization_level": 99},
        {"disabled_optimizers": "MatMulAddFusion"},
    ],
)
def test_unknown_options_and_values_are_refused(options):
    with pytest.raises(InvalidRequest, match="options"):
        OrtRuntime().check_options(options)
