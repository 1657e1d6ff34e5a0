"""Files for NPUs: what stands between which conversions, and what they compute on a CPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vitsearch.compress.quantization.quantize import quantize_for_npu
from vitsearch.errors import StageError
from vitsearch.export.evaluate import logits
from vitsearch.export.graph.onnx_file import write_onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
ACTIVATIONS = {"int8_ptq": np.uint8, "w8a16": np.uint16}


@pytest.fixture(scope="module")
def single(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "model.onnx"
    write_onnx(base.model(), (1, 1, 28, 28), path, batch=1)
    return path


@pytest.fixture(scope="module", params=ACTIVATIONS)
def quantized(request, single, images, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    quantize_for_npu(single, path, request.param, images)
    return request.param, path


def test_every_operator_reads_what_was_dequantized_and_gives_what_is_quantized(quantized):
    graph = onnx.load(quantized[1]).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    shapes = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT64}
    for node in graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            continue
        assert {makers[name] for name in node.input if name and name not in shapes} == {DEQUANTIZE}, node.name
        assert {readers[name] for name in node.output} == {QUANTIZE}, node.name
    assert makers[graph.output[0].name] == DEQUANTIZE


def test_weights_have_8_bits_without_a_sign_and_activations_those_of_the_precision(quantized):
    precision, path = quantized
    graph = onnx.load(path).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = {tensors[node.input[2]].dtype.type for node in graph.node if node.op_type == QUANTIZE}
    assert zeros == {ACTIVATIONS[precision]}
    stored = {node.output[0]: tensors.get(node.input[0]) for node in graph.node if node.op_type == DEQUANTIZE}
    weights = [stored[node.input[1]] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert {weight.dtype.type for weight in weights if weight is not None} == {np.uint8}
    assert len(weights) > 20


def test_on_a_cpu_the_file_gives_the_classes_of_fp32(quantized, single, base):
    inputs = base.held_out[0][:128].numpy()
    whole, rounded = (logits(path, inputs, 1).argmax(1) for path in (single, quantized[1]))
    assert np.mean(whole == rounded) >= 0.96


def test_the_file_is_the_same_each_time_and_nothing_else_is_left(single, images, tmp_path, caplog, capfd):
    for name in ("first", "second"):
        quantize_for_npu(single, tmp_path / name, "w8a16", images[:4])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_floats_are_written_as_for_other_providers(single, images, tmp_path):
    quantize_for_npu(single, tmp_path / "out.onnx", "fp32", images)
    assert (tmp_path / "out.onnx").read_bytes() == single.read_bytes()


def test_a_range_that_is_not_finite_is_refused(single, images, tmp_path):
    broken = np.full_like(images[:2], np.nan)
    with pytest.raises(StageError, match="NaN or infinity|onnxruntime.quantization"):
        quantize_for_npu(single, tmp_path / "out.onnx", "int8_ptq", broken)
