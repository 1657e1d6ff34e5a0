import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitsearch.compress.quantization.half import halve, halved
from vitsearch.errors import StageError
from vitsearch.export.evaluate import logits as run


@pytest.mark.long
def test_the_file_is_half_as_large_and_agrees_with_fp32(base, plain, tmp_path):
    halve(plain, tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.52 * plain.stat().st_size
    inputs = base.held_out[0][:64].numpy()
    expected, actual = (run(path, inputs, 64) for path in (plain, tmp_path / "half.onnx"))
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() < 5e-3 * np.abs(expected).max()


def of_weight(values, path):
    """A file that computes `logits = images @ values`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("images", "logits")]
    nodes = [helper.make_node("MatMul", ["images", "w"], ["logits"])]
    weight = numpy_helper.from_array(np.asarray(values, np.float32), "w")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_weights_beyond_the_range_of_fp16_are_refused(tmp_path):
    of_weight(np.eye(4) * 1e5, tmp_path / "in.onnx")
    with pytest.raises(StageError, match="w has values beyond 65504, the largest of fp16"):
        halve(tmp_path / "in.onnx", tmp_path / "out.onnx")


def test_the_smallest_weights_are_rounded_without_a_warning(tmp_path):
    of_weight(np.eye(4) * 1e-9, tmp_path / "in.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        halve(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert np.abs(run(tmp_path / "out.onnx", np.ones((1, 4), np.float32), 1)).max() < 1e-5


def test_kept_nodes_compute_in_fp32_without_a_detour_between_them():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("images", "logits")]
    steps = ("images", "a"), ("a", "b"), ("b", "c"), ("c", "logits")
    nodes = [helper.make_node("Softmax" if end in "bc" else "Relu", [start], [end]) for start, end in steps]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    half = halved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), {"b", "c"})
    inferred = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True).graph
    operators = [node.op_type for node in inferred.node]
    assert operators == ["Cast", "Relu", "Cast", "Softmax", "Softmax", "Cast", "Relu", "Cast"]
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    assert {types[node.input[0]] for node in inferred.node if node.op_type == "Softmax"} == {TensorProto.FLOAT}
