import pytest

from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import (
    opens_batch,
    precisions_on,
    provider_for,
    quantized_ops_of,
    supports_batch,
    supports_on,
    supports_quantized_ops,
)
from vitsearch.core.targets import TARGETS
from vitsearch.targets.onnxruntime import QNN


def test_16_bit_activations_are_for_the_npu_alone():
    assert supports_on("onnxruntime", QNN, "w8a16") is None
    assert provider_for("onnxruntime", "w8a16") == QNN
    others = set(TARGETS["onnxruntime"].providers) - {QNN}
    reasons = [supports_on("onnxruntime", provider, "w8a16") for provider in others]
    assert all(reason and "16-bit activations are fused on NPUs alone" in reason for reason in reasons)


def test_the_npu_refuses_files_without_pairs_around_every_operator():
    assert precisions_on("onnxruntime", QNN) == ("fp32", "fp16", "int8_ptq", "w8a16")
    reason = supports_on("onnxruntime", QNN, "int8_dynamic")
    assert reason is not None
    assert reason.endswith("allowed there: fp32, fp16, int8_ptq, w8a16")


def test_what_a_runtime_cannot_run_no_provider_of_it_can():
    assert supports_on("openvino", "npu", "w8a16") == (
        "'w8a16' is not supported for openvino; allowed: fp32, bf16, fp16, int8_ptq, int8_qat"
    )
    assert supports_on("abacus", "cpu", "fp32") is not None


def test_files_for_the_npu_have_one_form():
    assert quantized_ops_of("onnxruntime", QNN, "int8_ptq") == ()
    assert quantized_ops_of("onnxruntime", "cpu", "int8_ptq") == ("linear", "all")
    assert supports_quantized_ops("onnxruntime", QNN, "int8_ptq", "linear") == (
        "files for qnn have no choice of quantized layers: every operator is, or none"
    )
    assert Deployment("phone", "onnxruntime", QNN, "fp32").at("int8_ptq").quantized_ops is None


@pytest.mark.parametrize(("provider", "is_open"), [("cpu", True), (QNN, False)])
def test_files_for_the_npu_have_a_fixed_batch(provider, is_open):
    assert opens_batch("onnxruntime", provider) == is_open
    assert (supports_batch("onnxruntime", provider, None) is None) == is_open
    assert supports_batch("onnxruntime", provider, 8) is None


@pytest.mark.parametrize("runtime", TARGETS)
def test_every_precision_of_a_runtime_runs_on_one_of_its_providers(runtime):
    for precision in TARGETS[runtime].precisions:
        assert supports_on(runtime, provider_for(runtime, precision), precision) is None
