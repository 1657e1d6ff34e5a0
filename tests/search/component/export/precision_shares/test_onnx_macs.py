"""MACs of single ONNX operators, those of onnxruntime's own among them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitsearch.export.precision_shares.onnx_macs import COUNTED, of_node
from vitsearch.export.precision_shares.onnx_nodes import nodes

MICROSOFT = "com.microsoft"


@pytest.fixture
def count():
    """Precision -> MACs of one operator with these inputs; a tuple of sizes stands for a constant of ones."""

    def macs(kind, image, *constants, domain="", batch=1, **attributes):
        arrays = [np.ones(each, np.float32) if isinstance(each, tuple) else each for each in constants]
        stored = [numpy_helper.from_array(array, f"c{index}") for index, array in enumerate(arrays)]
        inputs = ["x", *(value.name for value in stored)]
        graph = helper.make_graph(
            [helper.make_node(kind, inputs, ["y"], domain=domain, **attributes)],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
            [helper.make_empty_tensor_value_info("y")],
            stored,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return dict(sum(map(of_node, nodes(model, COUNTED, batch)), Counter()))

    return macs


@pytest.mark.parametrize(
    ("kind", "image", "weight", "attributes", "macs"),
    [
        ("MatMul", [2, 5, 8], (8, 6), {}, 2 * 5 * 6 * 8),
        ("Gemm", [8, 5], (6, 8), {"transA": 1, "transB": 1}, 5 * 6 * 8),
        ("Conv", [1, 3, 9, 9], (4, 3, 3, 3), {"strides": [2, 2]}, 4 * 4 * 4 * 27),
        ("Conv", [1, 8, 9, 9], (8, 1, 3, 3), {"group": 8, "pads": [1] * 4}, 9 * 9 * 8 * 9),
        ("ConvTranspose", [1, 3, 4, 4], (3, 5, 2, 2), {"strides": [2, 2]}, 3 * 4 * 4 * 5 * 4),
        ("Einsum", [2, 5, 8], (2, 6, 8), {"equation": "bqd,bkd->bqk"}, 2 * 5 * 6 * 8),
    ],
)
def test_macs_of_the_operators_of_onnx(count, kind, image, weight, attributes, macs):
    assert count(kind, image, weight, **attributes) == {"fp32": macs}


def test_an_open_batch_is_counted_at_the_batch_that_is_asked(count):
    assert count("MatMul", ["batch", 5, 8], (8, 6), batch=3) == {"fp32": 3 * 5 * 6 * 8}


def test_products_of_floats_that_are_quantized_at_run_time_are_int8(count):
    weight, scale, zero = np.ones((8, 6), np.int8), np.float32(0.1), np.int8(0)
    counted = count("DynamicQuantizeMatMul", [5, 8], weight, np.array(scale), np.array(zero), domain=MICROSOFT)
    assert counted == {"int8": 5 * 6 * 8}


@pytest.mark.parametrize(("level", "kind"), [(0, "fp32"), (1, "fp32"), (4, "int8")])
def test_blocks_of_8_bits_are_multiplied_as_their_accuracy_level_says(count, level, kind):
    weight, scales = np.ones((6, 1, 32), np.uint8), np.ones((6, 1), np.float32)
    settings = {"K": 32, "N": 6, "bits": 8, "block_size": 32, "accuracy_level": level}
    assert count("MatMulNBits", [5, 32], weight, scales, domain=MICROSOFT, **settings) == {kind: 5 * 6 * 32}


def test_attention_in_one_operator_counts_both_of_its_products(count):
    keys = (1, 7, 8)
    counted = count("MultiHeadAttention", [1, 5, 8], keys, keys, domain=MICROSOFT, num_heads=2)
    assert counted == {"fp32": 2 * 5 * 7 * 8}


def test_attention_with_its_weights_counts_the_projection_too(count):
    counted = count("Attention", [1, 5, 8], (8, 24), (24,), domain=MICROSOFT, num_heads=2)
    assert counted == {"fp32": 5 * 8 * 24 + 2 * 5 * 5 * 8}
