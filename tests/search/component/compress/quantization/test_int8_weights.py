from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.int8_weights import quantize_weights, symmetric
from vitsearch.export.evaluate import logits as run


@pytest.fixture(scope="module")
def small(plain):
    path = plain.parent / "int8.onnx"
    quantize_weights(plain, path)
    return path


def kinds(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.long
def test_every_weight_is_int8_in_the_file_and_nothing_else_changes(plain, small):
    before, after = kinds(plain), kinds(small)
    assert after.pop("DequantizeLinear") == 4 * 6 + 1 + 1  # the linear layers and the patches
    before.pop("Identity", None), after.pop("Identity", None)  # aliases of equal tensors that the exporter stores once
    assert after == before
    assert small.stat().st_size < 0.28 * plain.stat().st_size
    floats = [t for t in onnx.load(small).graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert max(int(np.prod(tensor.dims)) for tensor in floats) <= 50 * 192  # the position table


@pytest.mark.long
def test_the_file_computes_with_the_rounded_weights(base, plain, small):
    inputs = base.held_out[0].numpy()
    expected, actual = (run(path, inputs, 50) for path in (plain, small))
    assert np.abs(actual - expected).max() < 0.05 * np.abs(expected).max()
    assert (actual.argmax(1) == expected.argmax(1)).mean() > 0.98


@given(st.integers(0, 10_000), st.sampled_from([(5, 3), (3, 2, 1, 1)]), st.sampled_from([0, 1]))
def test_the_rounding_error_is_at_most_half_a_step(seed, shape, axis):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    values[(slice(None),) * axis + (0,)] = 0  # a channel of zeros
    steps, scale = symmetric(values, axis)
    back = steps * np.expand_dims(scale, [a for a in range(values.ndim) if a != axis])
    assert np.abs(back - values).max() <= scale.max() / 2 * (1 + 1e-5)
    assert scale.shape == (shape[axis],)


W = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
GRAPHS = {
    "a weight that is read both ways": (
        [("MatMul", ["images", "w"], {}), ("Gemm", ["images", "w"], {"transB": 1})],
        2,
    ),
    "one weight of two layers": ([("MatMul", ["images", "w"], {}), ("MatMul", ["images", "w"], {})], 1),
    "a product of activations": ([("MatMul", ["images", "images"], {}), ("Relu", ["images"], {})], 0),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_weight_is_stored_once_for_each_way_that_it_is_read(case, tmp_path):
    (first, second), expected = GRAPHS[case]
    nodes = [helper.make_node(*it[:2], [name], **it[2]) for it, name in ((first, "y"), (second, "z"))]
    nodes.append(helper.make_node("Add", ["y", "z"], ["logits"]))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [16, 16]) for name in ("images", "logits")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(W, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "in.onnx")
    quantize_weights(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert kinds(tmp_path / "out.onnx")["DequantizeLinear"] == expected
    images = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32)
    whole, rounded = (run(tmp_path / name, images, 16) for name in ("in.onnx", "out.onnx"))
    np.testing.assert_allclose(rounded, whole, atol=0.05 * np.abs(whole).max())
