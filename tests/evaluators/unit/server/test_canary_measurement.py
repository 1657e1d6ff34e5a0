import pytest

from vitsearch_agent.runtimes import create
from vitsearch_agent.server.canary_measurement import model_for

pytest.importorskip("numpy")


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
