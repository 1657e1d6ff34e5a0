import pytest

from vitsearch_evaluators.agent.canary_model import model_for, onnx_bytes
from vitsearch_evaluators.runtimes import create

numpy = pytest.importorskip("numpy")


def test_the_file_is_valid_onnx_of_an_old_version():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_bytes())
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (7, 13)
    assert len(onnx_bytes()) < 1000


def test_its_values_stay_in_range():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx_bytes(), providers=["CPUExecutionProvider"])
    image = numpy.full((1, 64, 256), 0.5, dtype="float32")
    (logits,) = session.run(None, {"image": image})
    assert numpy.allclose(logits, 0.5)


@pytest.mark.parametrize("available", [["noop", "onnxruntime"], ["noop"]])
def test_it_runs_on_the_available_runtime(available, tmp_path):
    if "onnxruntime" in available:
        pytest.importorskip("onnxruntime")
    model = model_for(available)
    assert model.runtime in available
    path = tmp_path / "model.onnx"
    path.write_bytes(model.content)
    runtime = create(model.runtime)
    runtime.load(str(path), runtime.check_options(model.options), threads=1, batch=None, shapes={}).run()
