import numpy as np
import onnx
import pytest
import torch
from torch import nn

from support.marks import long
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.compress.quantization.int8_weights import quantize_weights
from vitsearch.compress.quantization.layers import linears
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.export.base import ExportTask
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.targets.onnxruntime.exporter import OnnxRuntimeExporter

MOST_NODES = {"vit_fmnist_p4": 149, "efficientvit_fmnist": 65, "mobilevit_fmnist": 292}
"""Before: 264, 115 and 451 (196, 88 and 370 without those of constants)."""
LAYERS = {"vit_fmnist_p4": 25, "efficientvit_fmnist": 2, "mobilevit_fmnist": 37}
SHAPE = (1, 1, 28, 28)


@pytest.fixture(scope="module", params=["vit_fmnist_p4", "efficientvit_fmnist", *long("mobilevit_fmnist")])
def base(request):
    spec = ModelSpec(request.param, "builtin", ImageSize.square(28), 10, 1)
    return request.param, backbones.find(request.param).build(spec).model.eval()


def test_the_graph_has_few_nodes_and_the_numbers_of_torch(base, tmp_path):
    name, model = base
    report = write_onnx(model, SHAPE, tmp_path / "model.onnx", batch=1)
    assert report.parity_rel <= 1e-5
    assert report.nodes <= MOST_NODES[name]


def test_an_open_batch_stays_open(base, tmp_path):
    name, model = base
    report = write_onnx(model, SHAPE, tmp_path / "model.onnx")
    assert report.parity_rel <= 1e-5  # at batches of 1 and 3
    assert report.nodes <= MOST_NODES[name] + 10  # a class token for each image


def test_constants_and_the_moves_of_nothing_vanish(base, tmp_path):
    write_onnx(base[1], SHAPE, tmp_path / "model.onnx", batch=1)
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert not kinds & {"Constant", "Identity", "Shape", "Squeeze", "Unsqueeze", "Cast", "Expand", "Pad", "Slice"}


class Reshaped(nn.Module):
    def forward(self, images):
        rows = images.flatten(1)
        return rows.reshape(rows.shape[0], -1, 2).sum(2) + torch.arange(rows.shape[1] // 2)


def test_what_depends_on_shapes_alone_is_computed(tmp_path):
    write_onnx(Reshaped(), (1, 1, 2, 4), tmp_path / "model.onnx", batch=1)
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert [node.op_type for node in nodes] == ["Reshape", "ReduceSum", "Add"]


def test_the_file_has_standard_operators_alone(base, tmp_path):
    write_onnx(base[1], SHAPE, tmp_path / "model.onnx", batch=1)
    model = onnx.load(tmp_path / "model.onnx")
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}


@pytest.mark.parametrize("batch", [1, None])
def test_all_linear_layers_are_found_with_their_weights_and_biases(base, batch, tmp_path):
    name, model = base
    write_onnx(model, SHAPE, tmp_path / "model.onnx", batch=batch)
    in_file = list(linears(onnx.load(tmp_path / "model.onnx").graph))
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(in_file) == len(layers) == LAYERS[name]
    for layer, module in zip(in_file, layers, strict=True):
        np.testing.assert_array_equal(layer.weight, module.weight.detach().numpy().T)
        assert bool(layer.bias) == (module.bias is not None)


@pytest.mark.parametrize("precision", ["fp32", "int8_dynamic", "int8_ptq", "int8_weights"])
@pytest.mark.parametrize("batch", [1, *long(None)])
def test_every_precision_is_near_torch(base, precision, batch, tmp_path):
    from vitsearch.export import evaluate

    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    deployment = Deployment("here", "onnxruntime", "cpu", precision, batch)
    task = ExportTask("", deployment, images.numpy())
    path = OnnxRuntimeExporter().export(base[1], task, tmp_path).path
    actual = evaluate.logits(path, images.numpy(), batch_size=batch or 4)
    with torch.inference_mode():
        expected = base[1](images).numpy()
    allowed = 1e-5 if precision == "fp32" else 0.2
    assert np.abs(actual - expected).max() <= allowed * np.abs(expected).max()


def test_weights_stay_int8_in_the_file(base, tmp_path):
    write_onnx(base[1], SHAPE, tmp_path / "plain.onnx", batch=1)
    quantize_weights(tmp_path / "plain.onnx", tmp_path / "int8.onnx")
    deployment = Deployment("here", "onnxruntime", "cpu", "int8_weights", 1)
    task = ExportTask("", deployment, np.zeros(SHAPE, np.float32))
    final = OnnxRuntimeExporter().export(base[1], task, tmp_path).path
    assert final.stat().st_size <= 1.05 * (tmp_path / "int8.onnx").stat().st_size


def test_learned_ranges_find_their_layers(base, tmp_path):
    spec = ModelSpec(base[0], "builtin", ImageSize.square(28), 10, 1)
    model = backbones.find(base[0]).build(spec).model.eval()
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    fake_quant.prepare(model, [images])
    with fake_quant.unrounded(model):
        write_onnx(model, SHAPE, tmp_path / "plain.onnx", batch=1)
    learned = fake_quant.learned(model)
    quantize.quantize(tmp_path / "plain.onnx", tmp_path / "int8.onnx", "int8_qat", images.numpy(), learned)
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in nodes) == len(learned) == LAYERS[base[0]]


class LastToken(nn.Module):
    """Reads one token behind layers of tokens, one of whose inputs others read too."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        x = self.first(images.flatten(1, 2))
        x = x + x.mean(1, keepdim=True)
        x = x + self.second(self.norm(x)).relu()
        return self.head(self.norm(x)[:, 1])


@pytest.mark.parametrize("batch", [1, 2, None])
def test_a_token_is_picked_before_the_layers_of_all_tokens(batch, tmp_path):
    report = write_onnx(LastToken().eval(), (1, 3, 5, 4), tmp_path / "model.onnx", batch=batch)
    assert report.parity_rel <= 1e-5
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx")).graph
    shapes = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 2
    assert [shapes[node.input[0]] for node in norms] == [2, 2]
