"""Combinations that are known to be slow, inexact or void."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.caveats.known_bad import KNOWN, warning, warnings
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import RUNTIMES

FP16 = Deployment("nano", "onnxruntime", "cpu", "fp16")
LINEAR_INT8 = replace(FP16, precision="int8_qat", quantized_ops="linear")


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.runtime} {known.precisions[0]}")
def test_an_entry_concerns_what_exists_and_has_a_figure_and_a_source(known):
    runtime, everywhere = RUNTIMES[known.runtime], replace(known, backbones=("*",))
    deployments = [
        Deployment("nano", known.runtime, provider, precision, quantized_ops=known.quantized_ops)
        for provider in runtime.providers
        for precision in runtime.precisions
    ]
    assert any(everywhere.concerns("any", deployment) for deployment in deployments)
    assert any(character.isdigit() for character in known.figure)
    assert str(known) == f"{known.reason}: {known.figure} ({known.source})"


@pytest.mark.parametrize(
    ("backbone", "deployment", "words"),
    [
        ("vit_fmnist_p4", FP16, "no fp16 kernels"),
        ("vit_fmnist_p4", replace(FP16, precision="int8_weights"), "rounds activations"),
        ("efficientvit_fmnist", replace(LINEAR_INT8, precision="int8_ptq"), "int8 in name only"),
        ("efficientvit_b1", replace(LINEAR_INT8, runtime="openvino"), "int8 in name only"),
        ("deit_small_patch16_224", Deployment("nano", "tensorrt", "gpu", "int8_ptq"), "no faster than fp16"),
    ],
)
def test_a_known_combination_is_warned_of(backbone, deployment, words):
    assert words in warning(backbone, deployment)


@pytest.mark.parametrize(
    ("backbone", "deployment"),
    [
        ("vit_fmnist_p4", replace(FP16, precision="fp32")),
        ("vit_fmnist_p4", replace(FP16, provider="cuda")),
        ("vit_fmnist_p4", replace(FP16, precision="int8_ptq")),
        ("efficientvit_fmnist", replace(LINEAR_INT8, quantized_ops="all")),
        ("efficientvit_fmnist", replace(LINEAR_INT8, runtime="openvino", quantized_ops="all")),
        ("efficientvit_fmnist", Deployment("nano", "another", "cpu", "fp16")),
    ],
)
def test_other_combinations_have_no_warning(backbone, deployment):
    assert warning(backbone, deployment) is None


def test_a_space_has_one_line_for_each_entry():
    int8 = [FP16.at("fp32"), *(replace(LINEAR_INT8, precision=one) for one in ("int8_dynamic", "int8_ptq"))]
    (line,) = warnings(["vit_fmnist_p4", "efficientvit_fmnist", "efficientvit_b0"], int8)
    assert line.startswith("efficientvit_fmnist, efficientvit_b0 on onnxruntime at int8_dynamic, int8_ptq: int8 in")
