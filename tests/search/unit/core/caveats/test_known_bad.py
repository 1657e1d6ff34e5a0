"""Combinations that are known to be slow, inexact or void."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from vitsearch.core.caveats.known_bad import concerns, known, warning, warnings
from vitsearch.core.caveats.precision_times import TimeRatio
from vitsearch.core.figures import Figure
from vitsearch.core.plan import Deployment
from vitsearch.core.targets import TARGETS

FP16 = Deployment("nano", "onnxruntime", "cpu", "fp16")
PALETTE = Deployment("mac", "coreml", "ane", "palette4")
LINEAR_INT8 = replace(FP16, precision="int8_qat", quantized_ops="linear")


def _id(part):
    return part if isinstance(part, str) else part.precisions[0]


each_combination = pytest.mark.parametrize(("runtime", "entry"), list(known()), ids=_id)


@each_combination
def test_an_entry_concerns_what_exists_and_has_a_figure_and_a_source(runtime, entry):
    everywhere = replace(entry, backbones=("*",))
    deployments = [
        Deployment("nano", runtime, provider, precision, quantized_ops=entry.quantized_ops)
        for provider in TARGETS[runtime].providers
        for precision in TARGETS[runtime].precisions
    ]
    assert any(concerns(everywhere, "any", deployment) for deployment in deployments)
    assert any(character.isdigit() for character in entry.figure)
    assert str(entry) == f"{entry.reason}: {entry.figure} ({entry.source})"


@each_combination
def test_an_entry_says_where_it_is_from_with_version_and_date(runtime, entry):
    if entry.source.startswith("published: "):
        return
    version, date = re.search(runtime + r" \d+\.\d+", entry.source), re.search(r"20\d\d-\d\d-\d\d", entry.source)
    assert version
    assert date
    assert ("measured on " in entry.source) or entry.about == "arithmetic", "a time was measured on a machine"


@pytest.mark.parametrize(
    ("backbone", "deployment", "words"),
    [
        ("vit_fmnist_p4", FP16, "no fp16 kernels"),
        ("vit_fmnist_p4", replace(FP16, precision="int8_weights"), "rounds activations"),
        ("efficientvit_fmnist", replace(LINEAR_INT8, precision="int8_ptq"), "int8 in name only"),
        ("efficientvit_b1", replace(LINEAR_INT8, runtime="openvino"), "int8 in name only"),
        ("deit_small_patch16_224", Deployment("nano", "tensorrt", "gpu", "int8_ptq"), "no faster than fp16"),
        ("vit_fmnist_p4", PALETTE, "0.63 on the Neural Engine"),
        ("vit_fmnist_p4", replace(PALETTE, provider="cpu"), "0.03 on the CPU"),
        ("vit_fmnist_p4", replace(PALETTE, precision="int8_weights"), "infinity on the Neural Engine"),
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
        ("vit_fmnist_p4", replace(PALETTE, provider="gpu")),
        ("vit_fmnist_p4", replace(PALETTE, precision="int8_weights", provider="cpu")),
        ("vit_fmnist_p4", replace(PALETTE, precision="fp16")),
    ],
)
def test_other_combinations_have_no_warning(backbone, deployment):
    assert warning(backbone, deployment) is None


def test_a_space_has_one_line_for_each_entry():
    int8 = [FP16.at("fp32"), *(replace(LINEAR_INT8, precision=precision) for precision in ("int8_dynamic", "int8_ptq"))]
    (line,) = warnings(["vit_fmnist_p4", "efficientvit_fmnist", "efficientvit_b0"], int8)
    assert line.startswith("efficientvit_fmnist, efficientvit_b0 on onnxruntime at int8_dynamic, int8_ptq: int8 in")


INT8 = replace(LINEAR_INT8, precision="int8_ptq")
OWN = TimeRatio("cpu_ms_p50", "fp32", "trial 3", Figure(0.81, 0.77, 0.85))


def test_what_a_file_computes_answers_what_other_files_did():
    assert warning("efficientvit_fmnist", INT8) is not None
    assert warning("efficientvit_fmnist", INT8, computes=True) is None


def test_no_figure_of_the_study_answers_wrong_outputs_of_a_device():
    """Its accuracy is that of a stand-in, and its times and shares say nothing of the outputs."""
    palette = warning("vit_fmnist_p4", PALETTE, computes=True, time_ratios=(OWN,))
    assert palette == warning("vit_fmnist_p4", PALETTE)
    assert "accuracy_images" in palette


def test_times_of_the_study_take_the_place_of_those_from_elsewhere():
    """A table with .51 against .63 ms had "CPU times 0.96 to 1.02 of fp32" below it."""
    fp16 = replace(FP16, precision="fp16")
    assert "0.98 to 1.12 times" in warning("vit_fmnist_p4", fp16)
    text = warning("vit_fmnist_p4", fp16, time_ratios=(OWN,))
    assert "no fp16 kernels" in text
    assert text.endswith("; here its cpu_ms_p50 is 0.81 (0.77 to 0.85) times that of fp32, trial 3")
    assert "0.98" not in text


def test_a_figure_beside_fp16_is_answered_by_fp16_alone():
    tensorrt = Deployment("nano", "tensorrt", "gpu", "int8_ptq")
    assert "T4" in warning("vit_small", tensorrt, time_ratios=(OWN,))
    assert "T4" not in warning("vit_small", tensorrt, time_ratios=(replace(OWN, precision="fp16"),))
