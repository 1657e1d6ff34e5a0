import os
import shutil

import pytest

from vitsearch_evaluators.errors import InvalidRequest, MeasurementFailed
from vitsearch_evaluators.runtimes.ort import OrtRuntime, _Input, random_feeds
from vitsearch_evaluators.testing import RuntimeTestCase

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


def load(path, batch=1, **options):
    runtime = OrtRuntime()
    return runtime.load(path, runtime.check_options(options), 1, batch)


def test_a_fixed_batch_must_match(tiny_onnx):
    load(tiny_onnx(batch=2), batch=2).run()
    with pytest.raises(MeasurementFailed, match="batch of 1"):
        load(tiny_onnx(batch=2), batch=1)


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


def test_inputs_are_seeded_and_typed():
    inputs = [_Input("image", "tensor(float16)", ["n", 3]), _Input("mask", "tensor(bool)", [1])]
    first, second = random_feeds(inputs, 1), random_feeds(inputs, 1)
    assert first["image"].shape == (1, 3)
    assert str(first["image"].dtype) == "float16"
    assert str(first["mask"].dtype) == "bool"
    assert (first["image"] == second["image"]).all()
    with pytest.raises(MeasurementFailed, match="tensor\\(string\\)"):
        random_feeds([_Input("text", "tensor(string)", [1])], 1)
