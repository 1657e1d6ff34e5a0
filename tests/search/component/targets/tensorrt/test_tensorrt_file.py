"""Files for TensorRT: their structure against its published rules, their numbers in onnxruntime as a stand-in.

TensorRT itself cannot run here; `test_tensorrt_agent.py` builds engines with it where a GPU has it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from support.int8 import exact_int8
from support.marks import long
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import sparsity
from vitsearch.compress.quantization import fake_quant
from vitsearch.compress.quantization.onnx_graph import attributes, constants
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, ExportTask, evaluate
from vitsearch.stages.parts import exporting
from vitsearch.targets.tensorrt.typed_graph import as_numbers, operators_of, refuse_unread
from vitsearch_agent import artifacts

LAYERS, PAIRS = ("MatMul", "Gemm", "Conv"), ("QuantizeLinear", "DequantizeLinear")


class Graph:
    """A graph with its types and the makers and readers of its tensors."""

    def __init__(self, model):
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
        values = (*inferred.input, *inferred.output, *inferred.value_info)
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
        self.nodes = model.graph.node
        self.constants = constants(model.graph)
        self.makers = {name: node for node in self.nodes for name in node.output}

    def made_by(self, name):
        return self.makers[name].op_type if name in self.makers else ""

    def readers(self, name):
        return [node for node in self.nodes if name in node.input]

    def weight(self, layer):
        """The constant of a layer in front of which pairs may stand, or None."""
        name = layer.input[1]
        while self.made_by(name) in PAIRS:
            name = self.makers[name].input[0]
        return self.constants.get(name)

    def layers(self):
        return [node for node in self.nodes if node.op_type in LAYERS and self.weight(node) is not None]

    def zero_and_scale(self, node):
        return (numpy_helper.to_array(self.constants[name]) for name in (node.input[2], node.input[1]))


def opset(model):
    return next(imported.version for imported in model.opset_import if imported.domain == "")


# ---- the form by version


@pytest.mark.parametrize(
    ("version", "wanted", "is_typed"),
    [("8.0.1", 13, False), ("8.2.1", 13, False), ("8.4.1", 13, False), ("8.5.2", 13, False), ("8.6.1", 17, False),
     ("9.3.0", 17, False), ("10.0.1", 20, True), ("10.3.0", 20, True), ("11.4.0", 20, True), (None, 20, True)],
)  # fmt: skip
def test_the_version_decides_opset_and_types(small, version, wanted, is_typed):
    model, folder = small.export("fp16", version)
    assert opset(model) == wanted
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert (TensorProto.FLOAT16 in types) == is_typed
    assert (folder / "judged.onnx").exists() == (not is_typed)
    operators = {node.op_type for node in model.graph.node}
    assert ("LayerNormalization" in operators) == (wanted > 13)
    assert ("Gelu" in operators) == (wanted == 20)


@pytest.mark.parametrize("version", ["8.4.1", "8.5.2", "8.6.1", "9.3.0", "10.3.0", "11.4.0"])
def test_weights_are_integers_in_typed_files_and_fp32_values_in_older_ones(small, version):
    graph = Graph(small.export("int8_ptq", version)[0])
    insist_on_placement(graph, 2)
    kinds = {graph.weight(node).data_type for node in graph.layers()}
    assert kinds == {TensorProto.INT8 if version.startswith("1") else TensorProto.FLOAT}


@pytest.mark.parametrize("version", ["7.1.3", "6.0"])
def test_a_version_that_is_too_old_is_refused_with_both(small, version):
    match = rf"\(unsupported\): the device has TensorRT {version}, files are made for 8.0 and newer"
    with pytest.raises(StageError, match=match):
        small.export("fp16", version)


def test_a_file_with_an_open_batch_is_written(small):
    model, folder = small.export("int8_ptq", "11.4.0", None)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert evaluate.logits(folder / "model.onnx", small.images.numpy(), 4).shape == (4, 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8_ptq"])
@pytest.mark.parametrize("version", ["11.4.0", *long("8.6.1")])
def test_images_and_logits_are_float32_and_the_batch_is_fixed(subject, precision, version):
    graph = subject.export(precision, version)[0].graph
    (images,), (logits,) = graph.input, graph.output
    assert (images.name, logits.name) == ("images", "logits")
    assert [value.type.tensor_type.elem_type for value in (images, logits)] == [TensorProto.FLOAT] * 2
    assert [size.dim_value for size in images.type.tensor_type.shape.dim] == [1, *subject.images.shape[1:]]


@pytest.mark.parametrize(
    ("precision", "version"),
    [
        ("fp32", "8.2.1"),
        ("fp16", "8.2.1"),
        ("int8_ptq", "8.0.1"),
        ("int8_ptq", "8.6.1"),
        ("fp16", "11.4.0"),
        ("int8_ptq", "11.4.0"),
    ],
)
@pytest.mark.long
def test_no_operator_is_outside_the_table_of_the_version(subject, precision, version):
    model, _ = subject.export(precision, version)
    table = operators_of(as_numbers(version))
    assert {node.op_type for node in model.graph.node} <= table.types.keys()
    assert {node.domain for node in model.graph.node} == {""}
    assert opset(model) <= table.opset
    refuse_unread(model, as_numbers(version))


def test_a_fixed_batch_leaves_no_nodes_on_shapes(subject):
    model, _ = subject.export("fp32", "11.4.0")
    assert not {node.op_type for node in model.graph.node} & {"Shape", "ConstantOfShape", "Constant", "Expand"}


# ---- fp16


@pytest.mark.parametrize("precision", ["fp16", "int8_ptq"])
def test_layers_compute_in_fp16_but_norms_softmax_and_the_classifier_in_fp32(subject, precision):
    graph = Graph(subject.export(precision, "11.4.0")[0])
    in_fp32 = {"LayerNormalization", "Softmax"}
    for node in graph.nodes:
        if node.op_type in in_fp32:
            assert graph.types[node.input[0]] == graph.types[node.output[0]] == TensorProto.FLOAT
        if node.op_type in ("Gelu", "HardSwish", "Sigmoid", "Relu"):
            assert graph.types[node.input[0]] == TensorProto.FLOAT16
    kinds = {node.output[0]: graph.types[node.output[0]] for node in graph.layers()}
    classifier = [name for name, kind in kinds.items() if kind == TensorProto.FLOAT]
    assert len(classifier) == subject.heads
    assert set(kinds.values()) == {TensorProto.FLOAT, TensorProto.FLOAT16}
    assert len(kinds) > 15


def test_the_classifier_gives_the_logits_without_a_cast(subject):
    graph = Graph(subject.export("fp16", "11.4.0")[0])
    name = "logits"
    while graph.made_by(name) in ("Add", "Div", "Mul", "Identity"):
        name = graph.makers[name].input[0]
    assert graph.made_by(name) in LAYERS
    assert graph.types[graph.makers[name].input[1]] == TensorProto.FLOAT


def test_no_cast_goes_to_fp16_and_back(subject):
    graph = Graph(subject.export("fp16", "11.4.0")[0])
    for node in graph.nodes:
        if node.op_type == "Cast" and graph.made_by(node.input[0]) == "Cast":
            assert graph.types[graph.makers[node.input[0]].input[0]] != graph.types[node.output[0]]


# ---- int8


def insist_on_placement(graph, count):
    """The rules of explicit quantization: pairs in front of layers with weights only, both inputs or none."""
    whole = [node for node in graph.layers() if graph.made_by(node.input[0]) == "DequantizeLinear"]
    assert len(whole) == count
    for layer in whole:
        assert graph.made_by(layer.input[1]) == "DequantizeLinear"
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear":
            assert {reader.op_type for reader in graph.readers(node.output[0])} <= set(LAYERS)
        elif node.op_type == "QuantizeLinear":
            assert [reader.op_type for reader in graph.readers(node.output[0])] == ["DequantizeLinear"]
        if node.op_type == "Add" or node not in whole:
            assert "DequantizeLinear" not in [graph.made_by(name) for name in node.input]


def quantized_layers(graph):
    """How many layers int8 must hold: all but convolutions of few channels, as stems and depthwise ones are."""
    dims = [graph.weight(node).dims[:2] for node in graph.layers() if node.op_type == "Conv"]
    return len(graph.layers()) - sum(min(sizes) < 16 for sizes in dims)


@pytest.mark.parametrize(
    ("precision", "version"), [("int8_ptq", "8.6.1"), ("int8_ptq", "11.4.0"), ("int8_qat", "11.4.0")]
)
def test_pairs_stand_where_tensorrt_fuses_them(subject, precision, version):
    graph = Graph(subject.export(precision, version)[0])
    insist_on_placement(graph, quantized_layers(graph))


@pytest.mark.parametrize("precision", ["int8_ptq", "int8_qat"])
def test_pairs_stand_before_linear_layers_alone_where_these_are_covered(subject, precision):
    graph = Graph(subject.export(precision, "11.4.0", ops="linear")[0])
    insist_on_placement(graph, sum(node.op_type != "Conv" for node in graph.layers()))


@pytest.mark.parametrize(
    ("precision", "version"), [("int8_ptq", "8.6.1"), ("int8_ptq", "11.4.0"), ("int8_qat", "11.4.0")]
)
def test_int8_is_signed_and_symmetric_per_tensor_and_per_output_channel(subject, precision, version):
    graph = Graph(subject.export(precision, version)[0])
    for node in graph.nodes:
        if node.op_type not in PAIRS:
            continue
        zero, scale = graph.zero_and_scale(node)
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
        is_weight = all(graph.weight(reader) is not None and reader.input[1] == node.output[0]
                        for reader in graph.readers(node.output[0]) if reader.op_type in LAYERS)  # fmt: skip
        if node.op_type == "DequantizeLinear" and is_weight:
            layer = graph.readers(node.output[0])[0]
            axis = 0 if layer.op_type == "Conv" else 1
            assert attributes(node)["axis"] == axis
            assert scale.shape == (graph.weight(layer).dims[axis],)
        elif node.op_type == "DequantizeLinear":
            assert scale.shape == ()


def test_the_rest_of_a_typed_int8_graph_is_fp16(subject):
    graph = Graph(subject.export("int8_ptq", "11.4.0")[0])
    outputs = [graph.types[node.output[0]] for node in graph.nodes if node.op_type == "DequantizeLinear"]
    assert outputs.count(TensorProto.FLOAT) == 2 * subject.heads
    assert set(outputs) == {TensorProto.FLOAT, TensorProto.FLOAT16}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            assert graph.types[node.input[0]] == graph.types[node.input[1]]


def test_both_int8_precisions_have_one_graph(subject):
    single, other = (subject.export(precision, "11.4.0")[0].graph for precision in ("int8_ptq", "int8_qat"))
    assert [node.op_type for node in single.node] == [node.op_type for node in other.node]


def test_a_learned_range_keeps_its_larger_end(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)).eval()
    images = torch.randn(4, 1, 4, 4)
    fake_quant.prepare(model, [images])
    (_, first), _ = fake_quant.quantized(model)
    with torch.no_grad():
        first.start.copy_(torch.tensor([-1.27, 0.5]))
    task = ExportTask("", Deployment("local", "tensorrt", "gpu", "int8_qat", 1), images.numpy(), version="10.3.0")
    EXPORTERS.get("tensorrt")().export(model, task, tmp_path)
    graph = Graph(onnx.load(tmp_path / "model.onnx"))
    quantizer = next(node for node in graph.nodes if node.op_type == "QuantizeLinear")
    _, scale = graph.zero_and_scale(quantizer)
    assert float(scale) == pytest.approx(0.01, rel=1e-3)


# ---- numbers, in onnxruntime


@pytest.mark.parametrize("version", ["8.2.1", "8.6.1", "11.4.0"])
def test_fp32_agrees_with_torch(subject, version):
    _, folder = subject.export("fp32", version)
    assert subject.difference(folder / "model.onnx") < 1e-4


def test_fp16_agrees_with_torch(subject):
    _, folder = subject.export("fp16", "11.4.0")
    assert subject.difference(folder / "model.onnx") < 5e-3


@exact_int8
def test_int8_with_a_flag_computes_what_the_judged_file_computes(subject):
    _, folder = subject.export("int8_ptq", "8.6.1")
    actual, judged = (
        evaluate.logits(folder / name, subject.images.numpy(), 1) for name in ("model.onnx", "judged.onnx")
    )
    assert np.abs(actual - judged).max() < 0.1 * np.abs(actual).max()


def test_the_difference_of_an_int8_file_to_the_model_that_rounds_does_not_refuse_it(small, monkeypatch):
    monkeypatch.setattr(exporting, "ROUNDED_PARITY_LIMIT", 0.0)
    task = small.task("int8_qat", "11.4.0")
    written = exporting.write(small.rounded(), task, small.folder)
    assert written.file.rounds_more
    assert 0 < written.parity < 0.1


def test_the_model_is_not_changed(subject):
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    subject.export("int8_ptq", "11.4.0")
    after = subject.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# ---- sparse weights


@pytest.mark.long
def test_sparse_weights_pass_through_and_ask_for_sparse_kernels(tmp_path):
    spec = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)
    family = backbones.find(spec.backbone)
    model = family.build(spec).model.eval()
    images = torch.randn(4, 1, 28, 28).numpy()
    task = ExportTask(family.family, Deployment("local", "tensorrt", "gpu", "int8_ptq", 1), images, version="10.3.0")
    (tmp_path / "dense").mkdir()
    assert EXPORTERS.get("tensorrt")().export(model, task, tmp_path / "dense").options == (("precision", "typed"),)
    sparsity.magnitude(model, "2:4")
    file = EXPORTERS.get("tensorrt")().export(model, task, tmp_path)
    assert file.options == (("precision", "typed"), ("sparsity", "enable"))
    graph = Graph(onnx.load(file.path))
    weights = [numpy_helper.to_array(graph.weight(node)) for node in graph.layers() if node.op_type == "MatMul"]
    assert all((weight.T.reshape(-1, 4) == 0).sum(1).min() >= 2 for weight in weights)


@pytest.mark.parametrize("version", ["8.2.1", "8.6.1", "10.3.0"])
def test_a_layer_that_int8_leaves_is_not_rounded(small, version, tmp_path):
    def rounded(folder):
        graph = Graph(onnx.load(folder / "model.onnx"))
        if version == "8.2.1":  # a scale of the input, and one of the output
            return len(artifacts.calibration(str(folder / "model.onnx")).splitlines()) // 2
        return sum(graph.made_by(layer.input[0]) == "DequantizeLinear" for layer in graph.layers())

    task = replace(small.task("int8_ptq", version), fp32_layers=["1"])
    EXPORTERS.get("tensorrt")().export(small.model, task, tmp_path)
    assert rounded(tmp_path) == rounded(small.export("int8_ptq", version)[1]) - 1
