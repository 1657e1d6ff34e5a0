import onnx
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import StageError, UnknownName
from vitsearch.export import EXPORTERS
from vitsearch.export.graph.onnx_file import write_onnx

SHAPE = (1, 1, 28, 28)


@pytest.fixture(scope="module")
def model():
    return (
        backbones.find("vit_fmnist_p4").build(ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)).model
    )


def test_the_report_describes_the_file(model, tmp_path):
    path = tmp_path / "model.onnx"
    report = write_onnx(model, SHAPE, path)
    assert 0 < report.parity_rel < 1e-5
    assert report.parity_max_abs > 0
    assert report.seconds_cpu > 0
    assert report.size_bytes == path.stat().st_size == pytest.approx(10.8e6, rel=0.05)
    written = onnx.load(path)
    assert report.nodes == len(written.graph.node)
    assert (written.opset_import[0].version, report.opset) == (17, 17)
    (inputs,), (outputs,) = written.graph.input, written.graph.output
    assert (inputs.name, outputs.name) == ("images", "logits")
    assert [d.dim_param or d.dim_value for d in inputs.type.tensor_type.shape.dim] == ["batch", 1, 28, 28]
    assert outputs.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_attention_of_torch_is_written(tmp_path):
    model = VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=10).eval()
    assert write_onnx(model, (1, 3, 32, 32), tmp_path / "model.onnx").parity_rel < 1e-5


def test_the_opset_is_the_requested_one(tmp_path):
    report = write_onnx(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 1, 2, 2), tmp_path / "m", 18)
    assert (report.opset, onnx.load(tmp_path / "m").opset_import[0].version) == (18, 18)


def test_the_model_is_not_changed(model, tmp_path):
    model.train()
    write_onnx(model, SHAPE, tmp_path / "model.onnx")
    assert model.training
    assert all(block.attn.fused_attn for block in model.blocks)
    model.eval()


class Frozen(nn.Module):
    """Has a condition on its input, of which tracing keeps one side."""

    def forward(self, images):
        flat = images.flatten(1)
        return flat * 2 if float(flat.abs().sum()) > 0 else flat * 3


def test_a_file_that_disagrees_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"failed \(parity\): onnxruntime and torch differ by"):
        write_onnx(Frozen(), (1, 1, 2, 2), tmp_path / "model.onnx")


class Broken(nn.Module):
    def forward(self, images):
        return torch.log(-images.flatten(1).abs() - 1)


def test_logits_with_nan_are_refused(tmp_path):
    with pytest.raises(StageError, match=r"exporting failed \(not_finite\)"):
        write_onnx(Broken(), (1, 1, 2, 2), tmp_path / "model.onnx")


class Unknown(nn.Module):
    def forward(self, images):
        return torch.special.i0e(images.flatten(1))


def test_an_operator_that_onnx_lacks_is_reported_in_one_line(tmp_path):
    with pytest.raises(StageError, match=r"exporting failed \(crash\): .*i0e") as caught:
        write_onnx(Unknown(), (1, 1, 2, 2), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_an_unknown_exporter_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'onnxruntime'"):
        EXPORTERS.get("onnxruntme")
