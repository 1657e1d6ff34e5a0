import onnxruntime as ort
import pytest
import torch
from torch import nn

from vitsearch.export.graph.onnx_file import write_onnx

SHAPE = (1, 3, 4, 8)


class Normalized(nn.Module):
    """Inputs from 1e-3 to 1e3 and a drawn weight, so that epsilon, square and weight all matter."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.register_buffer("scale", torch.logspace(-3, 3, 4).reshape(4, 1))
        if norm.weight is not None:
            nn.init.normal_(norm.weight)

    def forward(self, images):
        return self.norm(images * self.scale).flatten(1)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize(
    "norm",
    [
        nn.RMSNorm(8, eps=1e-6),
        nn.RMSNorm(8),
        nn.RMSNorm((4, 8)),
        nn.RMSNorm(8, elementwise_affine=False),
    ],
    ids=["last axis", "default epsilon", "two axes", "no weight"],
)
def test_rms_norm_is_exported_exactly(norm, opset, tmp_path):
    report = write_onnx(Normalized(norm), SHAPE, tmp_path / "model.onnx", opset)
    assert report.parity_rel <= 1e-6


def test_the_runtime_computes_rms_norm_in_one_kernel(tmp_path):
    plain, optimized = tmp_path / "model.onnx", tmp_path / "optimized.onnx"
    write_onnx(Normalized(nn.RMSNorm(8)), SHAPE, plain)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(optimized)
    ort.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    assert b"SimplifiedLayerNormalization" in optimized.read_bytes()
