import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from support.marks import long
from vitsearch.compress.quantization.quantize import quantize
from vitsearch.core.precisions import supports
from vitsearch.core.targets import TARGETS
from vitsearch.errors import PlanError
from vitsearch.export.evaluate import logits as run
from vitsearch.export.graph.onnx_file import write_onnx

LAYER = "MatMulIntegerToFloat"


INT8 = [name for name in TARGETS["onnxruntime"].precisions if name.startswith("int8")]


def test_fp32_is_a_copy(plain, tmp_path, images):
    quantize(plain, tmp_path / "out.onnx", "fp32", images)
    assert (tmp_path / "out.onnx").read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("precision", ["int8_ptq", *long(*(name for name in INT8 if name != "int8_ptq"))])
def test_int8_files_are_small_and_accurate_without_side_effects(
    precision, base, plain, images, tmp_path, caplog, capfd
):
    before = sorted(plain.parent.iterdir())
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    quantize(plain, tmp_path / "out.onnx", precision, images)
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    assert sorted(plain.parent.iterdir()) == before
    assert (tmp_path / "out.onnx").stat().st_size < 0.35 * plain.stat().st_size
    inputs, labels = base.held_out
    whole, small = (run(path, inputs.numpy(), 50) for path in (plain, tmp_path / "out.onnx"))
    assert (whole.argmax(1) == small.argmax(1)).mean() > 0.96


@pytest.mark.parametrize(("precision", "kernel"), [("int8_dynamic", "MatMulInteger"), ("int8_ptq", LAYER)])
@pytest.mark.long
def test_int8_covers_all_layers_but_no_products_of_activations(precision, kernel, plain, images, tmp_path):
    quantize(plain, tmp_path / "out.onnx", precision, images)
    before, after = (
        Counter(node.op_type for node in onnx.load(path).graph.node) for path in (plain, tmp_path / "out.onnx")
    )
    assert after[kernel] == 4 * 6 + 1
    assert after["MatMul"] == 2 * 6
    for kind in ("Conv", "Softmax", "Erf", "ReduceMean", "Sqrt", "Pow", "LayerNormalization"):
        assert after[kind] == before[kind]


def test_unknown_precision_is_refused(plain, images, tmp_path):
    with pytest.raises(PlanError, match="unknown precision 'int4'; known: fp32, fp16, int8_dynamic, int8_ptq"):
        quantize(plain, tmp_path / "out.onnx", "int4", images)


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Softmax"])
def test_onnxruntime_still_has_no_bf16_kernels_on_a_cpu(kind):
    """`supports` gives this as the reason; when this test fails, bf16 can be offered."""
    to_bf16, to_fp32 = {"to": TensorProto.BFLOAT16}, {"to": TensorProto.FLOAT}
    operands = ["b", "b"] if kind in ("MatMul", "Gemm") else ["b"]
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], **to_bf16),
        helper.make_node(kind, operands, ["c"]),
        helper.make_node("Cast", ["c"], ["y"], **to_fp32),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), ir_version=8)
    model.opset_import[0].version = 17
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented):
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_supports_gives_reasons():
    assert all(supports(name, p) is None for name, runtime in TARGETS.items() for p in runtime.precisions)
    assert "allowed: fp32, fp16, int8_dynamic" in supports("onnxruntime", "int4")
    assert supports("onnxruntime", "bf16").startswith("'bf16': onnxruntime has no bf16 kernels on CPUs")
    assert "runtime 'abacus' is not supported" in supports("abacus", "fp32")


@pytest.mark.parametrize("precision", ["int8_ptq", "fp16", *long(*(name for name in INT8 if name != "int8_ptq"))])
def test_a_cut_and_quantized_model_agrees_with_torch(precision, base, images, tmp_path):
    from vitsearch.compress import prune

    model = base.model()
    prune.apply(model, base.family, base.resolved(heads=5, ffn=384), torch.zeros(1, 1, 28, 28))
    write_onnx(model, (1, 1, 28, 28), tmp_path / "in.onnx")
    quantize(tmp_path / "in.onnx", tmp_path / "out.onnx", precision, images)
    inputs = base.held_out[0][:64]
    with torch.inference_mode():
        expected = model(inputs).argmax(1).numpy()
    assert np.mean(run(tmp_path / "out.onnx", inputs.numpy(), 64).argmax(1) == expected) > 0.95
