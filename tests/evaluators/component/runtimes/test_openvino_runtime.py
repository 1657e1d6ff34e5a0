import os
import shutil

import pytest

from support.artifact_files import added_row, identity
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.runtimes.openvino_runtime import OpenVinoRuntime
from vitsearch_agent.testing import RuntimeTestCase


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


class TestOpenVino(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _model(self, openvino, tiny_onnx):
        self.model = tiny_onnx()

    def make_runtime(self):
        return OpenVinoRuntime()

    def make_model(self, folder):
        return shutil.copy(self.model, os.path.join(folder, "model.onnx"))

    def make_images(self):
        return pytest.importorskip("numpy").ones((1, 8), "float32")

    def make_options(self):
        return {"inference_precision": "f32"}


def load(path, batch=None, shapes=None, **options):
    runtime = OpenVinoRuntime()
    return runtime.load(str(path), runtime.check_options(options), 1, batch, shapes or {})


def test_an_openvino_pair_computes_the_same_as_the_onnx_file(openvino, tiny_onnx, tmp_path):
    onnx = tiny_onnx()
    openvino.save_model(openvino.Core().read_model(onnx), str(tmp_path / "model.xml"), compress_to_fp16=False)
    outputs = []
    for path in (onnx, tmp_path / "model.xml"):
        session = load(path, batch=3)
        session.run()
        outputs.append(session._request.get_output_tensor(0).data.copy())
    assert outputs[0].shape == (3, 4)
    assert (outputs[0] == outputs[1]).all()


def test_the_precision_in_use_is_read_back(openvino, tiny_onnx):
    assert load(tiny_onnx()).reported_options == {"inference_precision_used": "f32"}
    assert load(tiny_onnx(), inference_precision="auto").reported_options["inference_precision_used"] in (
        "f32",
        "bf16",
        "f16",
    )


def test_a_precision_that_the_cpu_lacks_is_unavailable(openvino, tiny_onnx):
    if "bf16" in OpenVinoRuntime().available().precisions:
        assert load(tiny_onnx(), inference_precision="bf16").reported_options == {"inference_precision_used": "bf16"}
    else:
        with pytest.raises(MeasurementFailed, match="not in bf16") as caught:
            load(tiny_onnx(), inference_precision="bf16")
        assert caught.value.kind == "runtime_unavailable"


def test_a_fixed_batch_is_the_batch_and_no_other_is_accepted(openvino, tiny_onnx):
    assert load(tiny_onnx(batch=2)).batch == 2
    with pytest.raises(MeasurementFailed, match="the model fixes batch 2 .*, but batch 1 was requested"):
        load(tiny_onnx(batch=2), batch=1)


def test_an_open_dimension_other_than_the_batch_needs_a_shape(openvino, tmp_path):
    (tmp_path / "model.onnx").write_bytes(identity(shape=("batch", 3, "height", "width")))
    with pytest.raises(MeasurementFailed, match="give, for example, --shape x=1,3,224,224$"):
        load(tmp_path / "model.onnx")
    session = load(tmp_path / "model.onnx", shapes={"x": (2, 3, 64, 48)})
    session.run()
    assert (session.batch, session.shapes) == (2, {"x": (2, 3, 64, 48)})
    assert list(session._request.get_output_tensor(0).shape) == [2, 3, 64, 48]


def test_an_input_without_declared_dimensions_needs_a_shape(openvino, tmp_path):
    (tmp_path / "model.onnx").write_bytes(identity(shape=None))
    with pytest.raises(MeasurementFailed, match="input 'x' of unknown shape; give"):
        load(tmp_path / "model.onnx")
    session = load(tmp_path / "model.onnx", shapes={"x": (3, 5)})
    session.run()
    assert session.shapes == {"x": (3, 5)}


def test_shapes_that_the_model_cannot_compute_are_an_incompatible_artifact(openvino, tmp_path):
    (tmp_path / "model.onnx").write_bytes(added_row(("batch", "width")))
    with pytest.raises(MeasurementFailed, match="openvino .* the model: ") as caught:
        load(tmp_path / "model.onnx", shapes={"x": (1, 5)}).run()
    assert caught.value.kind == "incompatible_artifact"


def test_external_data_is_refused_before_it_is_read(openvino, tiny_onnx):
    with pytest.raises(MeasurementFailed, match="external") as caught:
        load(tiny_onnx(external=True))
    assert caught.value.kind == "incompatible_artifact"


@pytest.mark.parametrize("options", [{"inference_precision": "f8"}, {"streams": 2}, {"device": "TPU"}])
def test_unknown_options_and_values_are_refused(options):
    with pytest.raises(InvalidRequest, match="options"):
        OpenVinoRuntime().check_options(options)
