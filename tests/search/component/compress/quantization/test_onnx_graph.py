import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.onnx_graph import attributes, constants, in_order, replace_nodes


def graph(*nodes, **values):
    """A graph from `x` to `y`."""
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in "xy"]
    tensors = [numpy_helper.from_array(np.full((2, 2), value, np.float32), name) for name, value in values.items()]
    return helper.make_graph([helper.make_node(*node) for node in nodes], "g", ends[:1], ends[1:], tensors)


def test_an_aliased_constant_is_found_under_every_name():
    model = graph(("Identity", ["a"], ["b"]), ("Identity", ["b"], ["c"]), ("MatMul", ["x", "c"], ["y"]), a=1.0)
    tensors = constants(model)
    assert set(tensors) == {"a", "b", "c"}
    assert tensors["c"].name == "a"


def test_unread_constants_and_identities_are_removed():
    model = graph(("Identity", ["a"], ["b"]), ("MatMul", ["x", "b"], ["y"]), a=1.0)
    nodes = list(model.node)
    nodes[1].input[1] = "new"
    replace_nodes(model, nodes, {"new": np.zeros((2, 2), np.float32)})
    assert [node.op_type for node in model.node] == ["MatMul"]
    assert [tensor.name for tensor in model.initializer] == ["new"]


def test_an_identity_that_is_an_output_stays():
    model = graph(("Relu", ["x"], ["b"]), ("Identity", ["b"], ["y"]))
    replace_nodes(model, list(model.node), {})
    assert [node.op_type for node in model.node] == ["Relu", "Identity"]


def test_attributes_are_plain_values():
    node = helper.make_node("Gemm", ["a", "b"], ["c"], transB=1, alpha=0.5)
    assert attributes(node) == {"transB": 1, "alpha": 0.5}


def test_nodes_are_sorted_topologically():
    backwards = graph(("Relu", ["b"], ["y"]), ("Relu", ["a"], ["b"]), ("Relu", ["x"], ["a"]))
    assert [node.output[0] for node in in_order(backwards)] == ["a", "b", "y"]
