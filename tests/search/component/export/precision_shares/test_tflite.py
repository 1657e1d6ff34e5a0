"""MACs of a TFLite file, by the types of its tensors."""

from __future__ import annotations

import pytest

from support.tflite_graph import Operator, Tensor, tflite_graph
from vitsearch.core.plan import Deployment
from vitsearch.targets.litert import shares as tflite
from vitsearch_agent.errors import MeasurementFailed

INT8 = 9
CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED, ADD, TRANSPOSE_CONV, BATCH_MATMUL = 3, 4, 6, 9, 0, 67, 126

DEPLOYMENT = Deployment("local", "litert", "cpu", "fp32")


@pytest.fixture
def count(tmp_path):
    def macs(tensors, operators):
        path = tmp_path / "model.tflite"
        path.write_bytes(tflite_graph(tensors, operators))
        return dict(tflite.macs(path, DEPLOYMENT))

    return macs


@pytest.mark.parametrize(
    ("code", "shapes", "macs"),
    [
        (FULLY_CONNECTED, ([5, 12], [7, 12], [5, 7]), 5 * 7 * 12),
        (CONV_2D, ([1, 8, 8, 3], [16, 3, 3, 3], [1, 4, 4, 16]), 4 * 4 * 16 * 27),
        (DEPTHWISE_CONV_2D, ([1, 8, 8, 6], [1, 3, 3, 6], [1, 8, 8, 6]), 8 * 8 * 6 * 9),
        (BATCH_MATMUL, ([2, 5, 8], [2, 8, 6], [2, 5, 6]), 2 * 5 * 6 * 8),
        (BATCH_MATMUL, ([2, 8, 5], [2, 8, 6], [2, 5, 6]), 2 * 5 * 6 * 8),  # the left one transposed
        (ADD, ([5, 12], [5, 12], [5, 12]), 0),
    ],
)
def test_macs_follow_from_the_shapes(count, code, shapes, macs):
    counted = count([Tensor(shape) for shape in shapes], [Operator(code, [0, 1, -1], [2])])
    assert sum(counted.values()) == macs


def test_a_transposed_convolution_counts_each_pixel_of_its_input(count):
    tensors = [Tensor([4], 2), Tensor([16, 2, 2, 3]), Tensor([1, 8, 8, 3]), Tensor([1, 16, 16, 16])]
    assert count(tensors, [Operator(TRANSPOSE_CONV, [0, 1, 2], [3])]) == {"fp32": 8 * 8 * 3 * 2 * 2 * 16}


@pytest.mark.parametrize(("images", "weights", "kind"), [(0, 0, "fp32"), (0, INT8, "int8"), (INT8, INT8, "int8")])
def test_int8_weights_are_multiplied_in_int8(count, images, weights, kind):
    tensors = [Tensor([1, 8], images), Tensor([4, 8], weights), Tensor([1, 4], images)]
    assert count(tensors, [Operator(FULLY_CONNECTED, [0, 1], [2])]) == {kind: 32}


def test_weights_that_are_only_stored_in_int8_count_as_floats(count):
    tensors = [Tensor([1, 8]), Tensor([4, 8], INT8), Tensor([4, 8]), Tensor([1, 4])]
    operators = [Operator(DEQUANTIZE, [1], [2]), Operator(FULLY_CONNECTED, [0, 2], [3])]
    assert count(tensors, operators) == {"fp32": 32}


def test_a_broken_file_is_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_graph([Tensor([1, 8])], [Operator(FULLY_CONNECTED, [0, 5], [0])]))
    with pytest.raises(MeasurementFailed, match="not a TFLite file"):
        tflite.macs(path, DEPLOYMENT)
