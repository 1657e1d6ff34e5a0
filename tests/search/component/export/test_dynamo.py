"""Files of the architectures that torch's TorchScript exporter cannot write, by the way of all files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from timm.models.volo import VOLO

from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT, exporter_of
from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export import ExportTask
from vitsearch.export.graph.onnx_file import convert
from vitsearch.stages.parts import exporting

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers, widths, heads = (1, 1, 1, 1), (32, 64, 64, 64), (2, 4, 4, 4)
    return VOLO(layers, img_size=32, num_classes=5, stem_hidden_dim=8, embed_dims=widths, num_heads=heads).eval()


def written(model, runtime, precision, batch, folder):
    task = ExportTask(
        "", Deployment("pc", runtime, "cpu", precision, batch), IMAGES, exporter=exporter_of("volo_d1_224")
    )
    return exporting.write(model, task, folder)


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.long), None])
def test_a_volo_is_written_in_opset_18_with_the_outputs_of_torch(model, batch, tmp_path):
    file = written(model, "onnxruntime", "fp32", batch, tmp_path)
    graph = onnx.load(file.file.path)
    (images,), (logits,) = graph.graph.input, graph.graph.output
    assert (file.exporter, graph.opset_import[0].version) == ("dynamo", DYNAMO.opset)
    assert file.parity < 1e-5
    assert (images.name, logits.name) == ("images", "logits")
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == [batch or "batch", 3, 32, 32]
    assert "Col2Im" in {node.op_type for node in graph.graph.node}


def test_its_linear_layers_are_quantized(model, tmp_path):
    graph = onnx.load(written(model, "onnxruntime", "int8_ptq", 1, tmp_path).file.path).graph
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    ops = Counter(node.op_type for node in graph.node)
    assert ops["MatMulIntegerToFloat"] == len(linear)


@pytest.mark.long
@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "fp32"), ("onnxruntime", "fp16")])
def test_other_files_start_from_it(runtime, precision, model, tmp_path):
    assert written(model, runtime, precision, 1, tmp_path).parity < (1e-5 if precision == "fp32" else 1e-2)


def test_the_other_exporter_lacks_an_operator_of_it(model, tmp_path):
    with pytest.raises(StageError, match=r"failed \(crash\): .*aten::col2im"):
        convert(model, IMAGES.shape, tmp_path / "model.onnx", exporter=TORCHSCRIPT)


def test_an_older_opset_is_refused_in_one_sentence(model, tmp_path):
    message = r"failed \(unsupported\): .* exported with opset 18 or newer, but the runtime reads at most 15"
    with pytest.raises(StageError, match=message):
        convert(model, IMAGES.shape, tmp_path / "model.onnx", 15, exporter=DYNAMO)


class Unknown(torch.nn.Module):
    def forward(self, images):
        return torch.special.i0e(images.flatten(1))


def test_an_operator_that_onnx_lacks_is_reported_in_one_line(tmp_path):
    with pytest.raises(StageError, match=r"exporting failed \(crash\): .*i0e") as caught:
        convert(Unknown(), (1, 1, 2, 2), tmp_path / "model.onnx", batch=1, exporter=DYNAMO)
    assert "\n" not in str(caught.value)
