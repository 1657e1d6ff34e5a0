import numpy as np
import pytest
import torch
from torch import nn

from vitsearch.export.evaluate import logits
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
    found = logits(path, images, batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    pieces = (images[start : start + 3] for start in range(0, 10, 3))
    np.testing.assert_allclose(logits(path, pieces, batch_size, threads=2), found, atol=1e-6)


def test_views_and_other_float_types_are_accepted(saved):
    _, path = saved
    images = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).transpose(0, 3, 1, 2)
    assert logits(path, images, 2).shape == (4, 3)
