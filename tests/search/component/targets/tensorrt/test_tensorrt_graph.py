"""Which nodes stay in fp32, and which operators a version of TensorRT reads."""

import json

import onnx
import pytest
from onnx import TensorProto, helper
from timm.models.efficientvit_mit import LiteMLA
from torch import nn

from vitsearch.errors import StageError
from vitsearch.export.graph.onnx_file import convert
from vitsearch.targets.tensorrt.typed_graph import (
    OPERATORS,
    as_numbers,
    kept_in_fp32,
    operators,
    operators_of,
    refuse_unread,
)


def graph_of(model, shape, path, opset=17):
    convert(model.eval(), shape, path, opset, 1)
    return onnx.load(path).graph


def kept_operators(graph):
    kept = kept_in_fp32(graph)
    return sorted(node.op_type for node in graph.node if node.output[0] in kept)


class Between(nn.Sequential):
    """A part between a layer and the classifier."""

    def __init__(self, part):
        super().__init__(nn.Flatten(), nn.Linear(8, 8), part, nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize(
    ("part", "opset", "kept"),
    [
        (nn.LayerNorm(8), 17, ["LayerNormalization"]),
        (nn.LayerNorm(8), 13, ["Add", "Div", "Pow", "ReduceMean", "Sqrt"]),
        (nn.RMSNorm(8), 17, ["Add", "Div", "Pow", "ReduceMean", "Sqrt"]),
        (nn.Softmax(-1), 17, ["Softmax"]),
        (nn.GELU(), 17, []),
        (nn.Hardswish(), 13, []),
    ],
)
def test_norms_and_softmax_stay_in_fp32_with_the_classifier(part, opset, kept, tmp_path):
    graph = graph_of(Between(part), (1, 1, 1, 8), tmp_path / "model.onnx", opset)
    assert kept_operators(graph) == sorted([*kept, "Gemm"])
    assert graph.node[-1].output[0] in kept_in_fp32(graph)


@pytest.mark.parametrize(
    ("side", "kept"),
    [
        (2, ["Add", "Div", "MatMul", "ReduceSum"]),  # tokens by tokens: divided before they meet the values
        (4, ["Add", "Div", "MatMul", "MatMul", "MatMul", "ReduceSum"]),  # channels by channels: divided at the end
    ],
)
def test_linear_attention_stays_in_fp32_from_its_products_to_its_division(side, kept, tmp_path):
    attention = LiteMLA(16, 16, dim=8)
    pooled = nn.Sequential(attention, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    graph = graph_of(pooled, (1, 16, side, side), tmp_path / "model.onnx")
    assert kept_operators(graph) == sorted([*kept, "Gemm"])


def model_of(nodes, opset=17, kind=TensorProto.FLOAT):
    ends = [helper.make_tensor_value_info(name, kind, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


class TestOperators:
    def test_one_that_a_version_lacks_is_refused_by_name(self):
        relu = helper.make_node("Relu", ["x"], ["y"], "a/relu")
        refuse_unread(model_of([relu]), (8, 6, 1))
        hard = helper.make_node("Shrink", ["x"], ["y"], "a/shrink")
        with pytest.raises(StageError, match=r"TensorRT 8.6.1 has no operator Shrink \(node a/shrink; .*json, 8.6\)"):
            refuse_unread(model_of([hard]), (8, 6, 1))

    def test_one_of_onnxruntime_is_refused_with_its_domain(self):
        fused = helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")
        with pytest.raises(StageError, match="has no operator com.microsoft.FastGelu"):
            refuse_unread(model_of([fused]), (10, 3, 0))

    def test_a_type_that_it_lacks_is_refused(self):
        erf = helper.make_node("Cos", ["x"], ["y"], "c")
        with pytest.raises(StageError, match="TensorRT 8.2.1 reads opsets up to 13, not 17"):
            refuse_unread(model_of([erf]), (8, 2, 1))
        negated = helper.make_node("Abs", ["x"], ["y"], "c")
        refuse_unread(model_of([negated], 13, TensorProto.INT64), (8, 2, 1))  # read as INT32
        with pytest.raises(StageError, match="has no Abs of INT8, it has BF16, FP16, FP32, INT32, INT64"):
            refuse_unread(model_of([negated], 17, TensorProto.INT8), (10, 3, 0))

    @pytest.mark.parametrize(
        ("version", "since"),
        [("8.0.3", "8.0"), ("8.2.1", "8.2"), ("8.5.2", "8.5"), ("10.3.0", "10.0"), ("11.4.0", "10.15")],
    )
    def test_a_version_has_the_newest_entry_that_is_not_newer(self, version, since):
        assert operators_of(as_numbers(version)).since == since

    def test_what_each_version_reads_grows(self):
        for older, newer in zip(operators(), operators()[1:], strict=False):
            assert older.types.keys() <= newer.types.keys()
            assert older.opset <= newer.opset
        first = {name: next(entry.since for entry in operators() if name in entry.types)
                 for name in ("Einsum", "LayerNormalization", "Gelu", "RMSNormalization")}  # fmt: skip
        assert first == {"Einsum": "8.2", "LayerNormalization": "8.6", "Gelu": "10.0", "RMSNormalization": "10.15"}

    def test_each_entry_names_its_source(self):
        for entry in json.loads(OPERATORS.read_text())["versions"].values():
            assert entry["source"].startswith("onnx/onnx-tensorrt docs/operators.md")
