import numpy as np
import onnx
import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.export import evaluate
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.targets.onnxruntime.fusions import DOMAIN, fuse

SHAPE = (1, 1, 28, 28)


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("batch", [1, None])
def test_attention_becomes_one_node(batch, tmp_path):
    path = tmp_path / "model.onnx"
    model = (
        backbones.find("vit_fmnist_p4")
        .build(ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1))
        .model.eval()
    )
    write_onnx(model, SHAPE, path, batch=batch)
    images = np.random.default_rng(0).standard_normal((batch or 3, *SHAPE[1:])).astype(np.float32)
    expected = evaluate.logits(path, images, batch_size=len(images))
    fuse(path)
    assert kinds(path).count("MultiHeadAttention") == 6
    assert "Softmax" not in kinds(path)
    assert len(kinds(path)) <= (113 if batch else 123)
    onnx.checker.check_model(onnx.load(path))
    np.testing.assert_allclose(evaluate.logits(path, images, batch_size=len(images)), expected, rtol=1e-4, atol=1e-4)


class Normed(nn.Module):
    """LeViT's linear layer: a batch norm over the channels of all tokens."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.0)
        nn.init.uniform_(self.norm.weight)

    def forward(self, images):
        x = self.linear(images.flatten(1, 2))
        return self.norm(x.flatten(0, 1)).reshape_as(x).mean(1)


@pytest.mark.parametrize("batch", [2, None])
def test_a_batch_norm_is_folded_into_the_linear_layer_before_it(batch, tmp_path):
    path = tmp_path / "model.onnx"
    model, images = Normed().eval(), torch.randn(2, 3, 5, 4)
    write_onnx(model, (1, 3, 5, 4), path, batch=batch)
    fuse(path)
    assert "BatchNormalization" not in kinds(path)
    with torch.inference_mode():
        expected = model(images).numpy()
    np.testing.assert_allclose(evaluate.logits(path, images.numpy(), batch_size=2), expected, rtol=1e-5, atol=1e-5)


def test_a_file_without_places_for_fused_operators_is_not_touched(tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 1, 2, 2), path)
    before = path.read_bytes()
    fuse(path)
    assert path.read_bytes() == before
    assert DOMAIN not in {imported.domain for imported in onnx.load(path).opset_import}
