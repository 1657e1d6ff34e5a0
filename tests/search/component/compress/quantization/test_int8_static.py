from __future__ import annotations

from collections import Counter
from importlib import resources

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch
from onnx import helper, numpy_helper

from support.int8 import exact_int8
from vitsearch.compress.quantization.int8_static import CALIBRATION_BATCH, Learned, quantize_static
from vitsearch.compress.quantization.layers import Coverage
from vitsearch.core.image_size import ImageSize
from vitsearch.core.precisions import ALL
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError
from vitsearch.export.evaluate import logits as run
from vitsearch.export.graph.onnx_file import write_onnx

LAYER = "MatMulIntegerToFloat"


@pytest.fixture(scope="module")
def small(plain, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "int8.onnx"
    quantize_static(plain, path, images)
    return path


def layers(path):
    """The constants of each int8 layer, by their position among the inputs; `None` for tensors."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [[constants.get(name) for name in node.input] for node in graph.node if node.op_type == LAYER]


# ---- the built-in base


@pytest.mark.long
def test_the_file_is_as_accurate_as_fp32_on_validation_images(plain, small):
    with np.load(str(resources.files("vitsearch") / "assets" / "fashion_mnist_14k.npz")) as archive:
        pixels, labels = archive["validation_images"][:500, ..., None], archive["validation_labels"][:500]
    inputs = to_tensor(pixels, ImageSize.square(28), Preprocessing((0.286,), (0.353,))).numpy()
    whole, small_share = ((run(path, inputs, 50).argmax(1) == labels).mean() for path in (plain, small))
    assert whole > 0.88
    assert small_share >= whole - 0.01


def test_weights_are_int8_with_a_scale_for_each_output(small):
    for _, weight, _, scales, _, zero, bias in layers(small):
        assert weight.dtype == np.int8
        assert scales.shape == bias.shape == weight.shape[1:]
        assert zero is None  # symmetric
        assert np.abs(weight.astype(int)).max(axis=0).min() == 127  # the whole range is used


def test_activations_are_uint8_with_one_scale(small):
    for _, _, scale, _, zero, _, _ in layers(small):
        assert (scale.shape, zero.shape, zero.dtype) == ((), (), np.uint8)


def test_no_fp32_copy_of_a_weight_stays(plain, small):
    assert small.stat().st_size < 0.3 * plain.stat().st_size


def test_the_same_images_give_the_same_file(plain, small, images, tmp_path):
    quantize_static(plain, tmp_path / "again.onnx", images)
    assert (tmp_path / "again.onnx").read_bytes() == small.read_bytes()


def test_ranges_come_from_the_images(plain, small, images, tmp_path):
    quantize_static(plain, tmp_path / "bright.onnx", images * 3)
    first, bright = layers(small)[0], layers(tmp_path / "bright.onnx")[0]
    assert not np.array_equal(first[2], bright[2])
    assert np.array_equal(first[1], bright[1])


def test_each_image_is_run_once_in_one_session(plain, images, tmp_path, monkeypatch):
    """Inference takes most of the time: a session or a run for each tensor would multiply it by their number."""
    sessions, batches = [], []

    class Counted(ort.InferenceSession):
        def __init__(self, *arguments, **more):
            sessions.append(self)
            super().__init__(*arguments, **more)

        def run(self, names, inputs):
            batches.extend(len(batch) for batch in inputs.values())
            return super().run(names, inputs)

    monkeypatch.setattr(ort, "InferenceSession", Counted)
    quantize_static(plain, tmp_path / "out.onnx", images)
    assert len(sessions) == 1
    assert batches == [CALIBRATION_BATCH] * (len(images) // CALIBRATION_BATCH)


def test_images_with_nan_are_refused(plain, images, tmp_path):
    with pytest.raises(StageError, match="has NaN or infinity on the calibration images"):
        quantize_static(plain, tmp_path / "out.onnx", np.full_like(images, np.nan))


def test_named_layers_stay_in_fp32(plain, small, images, tmp_path):
    left = [numpy_helper.to_array(tensor) for tensor in onnx.load(plain).graph.initializer if len(tensor.dims) == 2]
    head = next(weight for weight in left if weight.shape == (10, 192))
    quantize_static(plain, tmp_path / "out.onnx", images, covered=Coverage(left=[head.T]))
    assert len(layers(tmp_path / "out.onnx")) == len(layers(small)) - 1
    with pytest.raises(StageError, match="a layer of 10 inputs that should stay in fp32 is not in the graph"):
        quantize_static(plain, tmp_path / "out.onnx", images, covered=Coverage(left=[head]))


# ---- the families


FAMILIES = {
    "swin": ("swin_tiny_patch4_window7_224", 56, {"img_size": 56, "embed_dim": 24, "depths": (1, 1, 1, 1)}),
    "levit": ("levit_128s", 64, {"img_size": 64, "depth": (1, 1, 1)}),
    "mobilevit_v1": ("mobilevit_xxs", 64, {}),
    "mobilevit_v2": ("mobilevitv2_050", 64, {}),
    "efficientvit_mit": ("efficientvit_b0", 32, {"depths": (1, 1, 1, 1), "head_widths": (256, 128)}),
    "efficientvit_msra": ("efficientvit_m0", 64, {"img_size": 64, "depth": (1, 1, 1)}),
}


def with_statistics(model, resolution):
    """Redraw norm weights that start at 0, because they would hide the branch in front of them."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and weight is not None and not weight.any():
            torch.nn.init.uniform_(weight, 0.5, 1.0, generator=generator)
    with torch.no_grad():
        model.train()(torch.randn(16, 3, resolution, resolution, generator=generator))
    return model.eval()


@pytest.mark.filterwarnings("ignore:Constant folding:UserWarning")  # from the exporter, on strided slices
@pytest.mark.parametrize("family", FAMILIES)
@exact_int8
def test_every_family_is_quantized_and_stays_close(family, tmp_path):
    name, resolution, options = FAMILIES[family]
    torch.manual_seed(0)
    model = with_statistics(timm.create_model(name, num_classes=10, **options), resolution)
    plain, small = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    write_onnx(model, (1, 3, resolution, resolution), plain)
    seen, unseen = np.random.default_rng(0).standard_normal((2, 16, 3, resolution, resolution)).astype(np.float32)
    quantize_static(plain, small, seen)
    linear = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert len(layers(small)) == linear
    expected, actual = run(plain, unseen, 16), run(small, unseen, 16)
    signal_to_noise_db = 10 * np.log10(np.square(expected).sum() / np.square(actual - expected).sum())
    assert signal_to_noise_db > 25


# ---- graphs of every kind


def graph(*nodes, **constants):
    """A graph from `images` (batch, 4) to `logits`."""
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("images", 4), ("logits", None))
    ]
    tensors = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph_proto = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes], "g", ends[:1], ends[1:], tensors
    )
    return helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


DRAW = np.random.default_rng(1)
W, SQUARE, B = DRAW.standard_normal((4, 3)), DRAW.standard_normal((4, 4)), DRAW.standard_normal(3)
GRAPHS = {
    "a bias on the left": (
        1,
        graph(("MatMul", ["images", "w"], ["y"], {}), ("Add", ["b", "y"], ["logits"], {}), w=W, b=B),
    ),
    "no bias": (1, graph(("MatMul", ["images", "w"], ["logits"], {}), w=W)),
    "a sum with an activation": (
        1,
        graph(("MatMul", ["images", "w"], ["y"], {}), ("Add", ["y", "images"], ["logits"], {}), w=SQUARE),
    ),
    "a sum with itself": (
        1,
        graph(("MatMul", ["images", "w"], ["y"], {}), ("Add", ["y", "y"], ["logits"], {}), w=W),
    ),
    "a product that is read twice": (
        1,
        graph(
            ("MatMul", ["images", "w"], ["y"], {}),
            ("Add", ["y", "b"], ["z"], {}),
            ("Mul", ["y", "z"], ["logits"], {}),
            w=W,
            b=B,
        ),
    ),
    "two layers of one input": (
        2,
        graph(
            ("MatMul", ["images", "w"], ["y"], {}),
            ("MatMul", ["images", "w"], ["z"], {}),
            ("Add", ["y", "z"], ["logits"], {}),
            w=W,
        ),
    ),
    "a bias that is another's": (
        2,
        graph(
            ("Identity", ["b"], ["c"], {}),
            ("Gemm", ["images", "w", "b"], ["y"], {}),
            ("Gemm", ["images", "w", "c"], ["z"], {}),
            ("Add", ["y", "z"], ["logits"], {}),
            w=W,
            b=B,
        ),
    ),
    "a transposed weight": (1, graph(("Gemm", ["images", "w", "b"], ["logits"], {"transB": 1}), w=W.T, b=B)),
    "a weight that is read both ways": (
        2,
        graph(
            ("MatMul", ["images", "w"], ["y"], {}),
            ("Gemm", ["images", "w"], ["z"], {"transB": 1}),
            ("Add", ["y", "z"], ["logits"], {}),
            w=SQUARE,
        ),
    ),
    "a Gemm with a factor": (0, graph(("Gemm", ["images", "w"], ["logits"], {"alpha": 0.5}), w=W)),
    "a Gemm with a matrix for a bias": (0, graph(("Gemm", ["images", "w", "b"], ["logits"], {}), w=W, b=B[None])),
    "a weight of zeros": (1, graph(("MatMul", ["images", "w"], ["logits"], {}), w=np.zeros((4, 3)))),
    "an input of zeros": (
        1,
        graph(("Mul", ["images", "n"], ["x"], {}), ("MatMul", ["x", "w"], ["logits"], {}), w=W, n=np.zeros(4)),
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
@exact_int8
def test_layers_are_found_and_nothing_else_changes(case, tmp_path):
    count, model = GRAPHS[case]
    onnx.save(model, tmp_path / "fp32.onnx")
    images = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", images)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    assert (kinds[LAYER], kinds["QuantizeLinear"]) == (count, min(count, 1))
    expected, actual = (run(tmp_path / name, images, 24) for name in ("fp32.onnx", "int8.onnx"))
    np.testing.assert_allclose(actual, expected, atol=0.02 * max(1.0, np.abs(expected).max()))


# ---- convolutions


KERNELS = {name: DRAW.standard_normal((32, 32, 3, 3)) / 17 for name in ("v", "w")}
SAME = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}


def feature_maps(*nodes, **constants):
    """A graph from `images` (batch, 32, 6, 6) to `logits` of the same shape."""
    model = graph(*nodes, **constants)
    for value in (*model.graph.input, *model.graph.output):
        shape = [None, 32, 6, 6]
        value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape))
    return model


ONE = feature_maps(("Conv", ["images", "w", "b"], ["logits"], SAME), w=KERNELS["w"], b=DRAW.standard_normal(32))
QUANTIZED = ["QuantizeLinear", "QLinearConv", "DequantizeLinear"]
MAPS = {
    "one": (ONE, QUANTIZED),
    "no bias": (
        feature_maps(("Conv", ["images", "w"], ["logits"], SAME), w=KERNELS["w"]),
        QUANTIZED,
    ),
    "two in a row": (
        feature_maps(("Conv", ["images", "v"], ["x"], SAME), ("Conv", ["x", "w"], ["logits"], SAME), **KERNELS),
        ["QuantizeLinear", "QLinearConv", "QLinearConv", "DequantizeLinear"],
    ),
    "an activation between": (
        feature_maps(
            ("Conv", ["images", "v"], ["x"], SAME),
            ("Sigmoid", ["x"], ["y"], {}),
            ("Conv", ["y", "w"], ["logits"], SAME),
            **KERNELS,
        ),
        [*QUANTIZED, "Sigmoid", *QUANTIZED],
    ),
    "a residual": (
        feature_maps(
            ("Conv", ["images", "v"], ["x"], SAME),
            ("Conv", ["x", "w"], ["y"], SAME),
            ("Add", ["x", "y"], ["logits"], {}),
            **KERNELS,
        ),
        [*QUANTIZED, "QLinearConv", "DequantizeLinear", "Add"],
    ),
    "one of few channels": (
        feature_maps(
            ("Conv", ["images", "d"], ["logits"], SAME | {"group": 32}), d=DRAW.standard_normal((32, 1, 3, 3))
        ),
        ["Conv"],
    ),
}


@pytest.mark.parametrize("case", MAPS)
@exact_int8
def test_convolutions_are_quantized_where_they_are_covered(case, tmp_path):
    model, kinds = MAPS[case]
    onnx.save(model, tmp_path / "fp32.onnx")
    images = np.random.default_rng(0).standard_normal((24, 32, 6, 6)).astype(np.float32)
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", images, covered=Coverage(ALL))
    assert [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node] == kinds
    expected, actual = (run(tmp_path / name, images, 24) for name in ("fp32.onnx", "int8.onnx"))
    assert np.linalg.norm(actual - expected) < 0.03 * np.linalg.norm(expected)


@exact_int8
@pytest.mark.parametrize("weights", [0.0, 1e-9, 1e-7])
def test_a_channel_whose_weights_are_nearly_zero_keeps_its_bias(weights, tmp_path):
    """As a dead channel has after its batch norm was folded into it."""
    kernel, bias = KERNELS["w"].copy(), np.zeros(len(KERNELS["w"]))
    kernel[0], bias[0] = weights * kernel[0], -1.0
    onnx.save(feature_maps(("Conv", ["images", "k", "b"], ["logits"], SAME), k=kernel, b=bias), tmp_path / "fp32.onnx")
    images = np.random.default_rng(0).standard_normal((24, 32, 6, 6)).astype(np.float32)
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", images, covered=Coverage(ALL))
    actual = run(tmp_path / "int8.onnx", images, 24)
    assert actual[:, 0] == pytest.approx(-1.0, abs=0.1)


def test_convolutions_stay_in_fp32_where_linear_layers_alone_are_covered(tmp_path):
    onnx.save(ONE, tmp_path / "fp32.onnx")
    images = np.random.default_rng(0).standard_normal((4, 32, 6, 6)).astype(np.float32)
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", images)
    assert [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node] == ["Conv"]


@exact_int8
def test_a_learned_range_of_a_linear_layer_behind_a_convolution_is_used(tmp_path):
    """The layer then reads other integers than those that the convolution gives."""
    nodes = [("Conv", ["images", "v"], ["x"], SAME), ("MatMul", ["x", "m"], ["logits"], {})]
    matrix = DRAW.standard_normal((6, 6))
    onnx.save(feature_maps(*nodes, v=KERNELS["v"], m=matrix), tmp_path / "fp32.onnx")
    images = np.random.default_rng(0).standard_normal((4, 32, 6, 6)).astype(np.float32)
    learned = [Learned(matrix.astype(np.float32), (-0.5, 0.5))]
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", images, learned, Coverage(ALL))
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert kinds == ["QuantizeLinear", "QLinearConv", "DequantizeLinear", "QuantizeLinear", LAYER]
    assert layers(tmp_path / "int8.onnx")[0][2] == np.float32(1 / 255)
