import numpy as np
import pytest
import torch
from torch import nn

from vitsearch.errors import StageError
from vitsearch.export.device_jobs import DeviceJob
from vitsearch.export.evaluate import latency_ms, logits
from vitsearch.export.graph.onnx_file import write_onnx


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.GELU(), nn.Linear(5, 3)).eval()
    path = tmp_path_factory.mktemp("saved") / "model.onnx"
    write_onnx(model, (1, 3, 2, 2), path)
    return model, path


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_every_image_is_run_once_and_in_order(saved, batch_size):
    model, path = saved
    images = np.random.default_rng(0).normal(size=(10, 3, 2, 2)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    actual = logits(path, images, batch_size)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    pieces = (images[start : start + 3] for start in range(0, 10, 3))
    np.testing.assert_allclose(logits(path, pieces, batch_size, threads=2), actual, atol=1e-6)


def test_views_and_other_float_types_are_accepted(saved):
    _, path = saved
    images = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).transpose(0, 3, 1, 2)
    assert logits(path, images, 2).shape == (4, 3)


def test_a_processor_without_the_precision_judges_in_fp32_and_gives_no_time(saved):
    openvino = pytest.importorskip("openvino")
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lacking = next((name for name in ("FP16", "BF16") if name not in capabilities), None)
    if lacking is None:
        pytest.skip("this processor computes in fp16 and in bf16")
    _, path = saved
    images = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    job = DeviceJob("openvino", {"inference_precision": {"FP16": "f16", "BF16": "bf16"}[lacking]})
    exact = DeviceJob("openvino", {"inference_precision": "f32"})
    np.testing.assert_array_equal(logits(path, images, 4, job=job), logits(path, images, 4, job=exact))
    with pytest.raises(StageError, match="runtime_unavailable"):
        latency_ms(path, images[:1], job=job)
