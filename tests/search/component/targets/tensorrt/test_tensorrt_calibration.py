"""int8 by the scales of tensors, for TensorRT before 8.4: what the scales cover, and what rounding at them costs."""

from __future__ import annotations

import struct
from importlib import resources

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from support.int8 import exact_int8
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.tensors import to_tensor
from vitsearch.export import EXPORTERS, ExportedFile, ExportTask, evaluate, precision_shares, structure
from vitsearch.targets.tensorrt.calibration import lines, round_at
from vitsearch.targets.tensorrt.exporter import LEAST_CHANNELS
from vitsearch.training.inference import accuracy
from vitsearch_agent import artifacts

VERSION = "8.2.1"


def scales_of(folder):
    """The scales in a file's metadata, by tensor."""
    lines = (line.rpartition(": ") for line in artifacts.calibration(str(folder / "model.onnx")).splitlines())
    return {name: struct.unpack(">f", bytes.fromhex(bits))[0] for name, _, bits in lines}


def between(model, scales):
    """The nodes that may be in int8: their first input and their output have scales."""
    return [node for node in model.graph.node if {node.input[0], node.output[0]} <= scales.keys()]


# ---- the graph


@pytest.mark.long
def test_the_file_computes_in_fp32_what_torch_does(subject):
    model, folder = subject.export("int8_ptq", VERSION)
    assert subject.difference(folder / "model.onnx") < 1e-4
    assert {tensor.data_type for tensor in model.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}


@pytest.mark.long
def test_the_layers_of_explicit_int8_may_be_in_int8_but_not_the_classifier(subject):
    model, folder = subject.export("int8_ptq", VERSION)
    explicit, _ = subject.export("int8_ptq", "8.4.1")
    rounded = {node.output[0] for node in explicit.graph.node if node.op_type == "DequantizeLinear"}
    layers = [node for node in explicit.graph.node if node.input[0] in rounded]
    channels = {tensor.name: min(tensor.dims[:2]) for tensor in model.graph.initializer if len(tensor.dims) == 4}
    nodes = [node for node in between(model, scales_of(folder)) if node.op_type == "Conv"]
    wide = [node for node in nodes if channels[node.input[1]] >= LEAST_CHANNELS]
    assert len(wide) == len(layers) - subject.heads > 10


def test_scales_name_tensors_of_the_graph_that_are_no_weights(subject):
    model, folder = subject.export("int8_ptq", VERSION)
    assert scales_of(folder).keys() <= {name for node in model.graph.node for name in node.output}


def test_only_layers_of_a_plain_vit_may_be_in_int8(subject):
    if subject.family != "vit":
        pytest.skip("activations between two convolutions may be, too")
    model, folder = subject.export("int8_ptq", VERSION)
    assert {node.op_type for node in between(model, scales_of(folder))} == {"Conv"}


@pytest.mark.long
def test_both_int8_precisions_have_one_graph_and_name_the_same_tensors(subject):
    files = [subject.export(precision, VERSION)[1] for precision in ("int8_ptq", "int8_qat")]
    assert scales_of(files[0]).keys() == scales_of(files[1]).keys()
    deployment = subject.task("int8_ptq", VERSION).deployment
    ptq, qat = (structure.digest_of(ExportedFile(folder / "model.onnx"), deployment) for folder in files)
    assert ptq == qat


def test_the_share_of_int8_is_unknown_because_tensorrt_chooses(small):
    _, folder = small.export("int8_ptq", VERSION)
    file = ExportedFile(folder / "model.onnx")
    assert precision_shares.by_precision(file, small.task("int8_ptq", VERSION).deployment) == {}


# ---- the scales


def test_a_scale_is_the_largest_value_on_the_calibration_images_over_127(small):
    _, folder = small.export("int8_ptq", VERSION)
    with torch.inference_mode():
        flat = small.model[0](small.images)
        values = {"input": flat, "output": small.model[1](flat)}
    scales = {name.rpartition("/")[2]: scale for name, scale in scales_of(folder).items()}
    assert scales == pytest.approx({name: float(value.abs().max()) / 127 for name, value in values.items()}, rel=1e-5)


def test_a_learned_range_keeps_its_larger_end(small, tmp_path):
    model = small.rounded()
    with torch.no_grad():
        fake_quant.quantized(model)[0][1].start.copy_(torch.tensor([-1.27, 0.5]))
    EXPORTERS.get("tensorrt")().export(model, small.task("int8_qat", VERSION), tmp_path)
    (scale,) = (scale for name, scale in scales_of(tmp_path).items() if name.endswith("/input"))
    assert scale == pytest.approx(0.01, rel=1e-6)


def test_a_line_has_the_bits_of_the_scale_in_hexadecimal():
    assert lines({"x": 1.0, "/blocks.0/y": 2.0**-126}) == "x: 3f800000\n/blocks.0/y: 00800000\n"


# ---- the stand-in that judges


@exact_int8
def test_rounding_is_that_of_tensors_and_of_the_weights_between_two_of_them():
    generator = np.random.default_rng(0)
    shapes = (1, 4, 2, 2), (3, 4, 1, 1), (2, 3, 1, 1)
    x, first, second = (generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    nodes = [
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Conv", ["negative", "first"], ["y"]),
        helper.make_node("Conv", ["y", "second"], ["z"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 2, 2]) for name, size in (("x", 4), ("z", 2))
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    round_at(model, {"negative": 0.02, "y": 0.05})
    step = np.abs(first).max(axis=1, keepdims=True) / 127
    y = multiplied(stepped(-x, 0.02), np.rint(first / step) * step)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], multiplied(stepped(y, 0.05), second), atol=1e-5)


def stepped(values, scale):
    return np.clip(np.rint(values / np.float32(scale)), -128, 127) * np.float32(scale)


def multiplied(pixels, weight):
    return np.einsum("oc,bchw->bohw", weight[..., 0, 0], pixels)


def archive(name):
    """The first 1000 images of a split, as inputs, and their labels."""
    with np.load(str(resources.files("vitsearch") / "assets" / "fashion_mnist_14k.npz")) as data:
        pixels, labels = data[f"{name}_images"][:1000, ..., None], data[f"{name}_labels"][:1000]
    return to_tensor(pixels, ImageSize.square(28), Preprocessing((0.286,), (0.353,))).numpy(), labels


@pytest.mark.long
@pytest.mark.parametrize("name", ["vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist"])
def test_rounding_costs_a_trained_base_less_than_a_point_of_accuracy(name, tmp_path):
    family = backbones.find(name)
    model = family.build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    (calibration, _), (unseen, labels) = archive("train"), archive("validation")
    deployment = Deployment("local", "tensorrt", "gpu", "int8_ptq", 1)
    task = ExportTask(family.family, deployment, calibration[:64], version=VERSION)
    file = EXPORTERS.get("tensorrt")().export(model, task, tmp_path)
    exact, rounded = (accuracy(evaluate.logits(path, unseen, 1), labels) for path in (file.path, file.judged))
    assert exact > 0.85
    assert exact - rounded < 0.01
