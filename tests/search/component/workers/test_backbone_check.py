"""A backbone is built, written at every precision and run; what fails is the answer and no exception."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.int8 import exact_int8
from vitsearch.compress.quantization import quantize
from vitsearch.core import precisions
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_of
from vitsearch.core.targets import TARGETS
from vitsearch.errors import PlanError, StageError, UnknownName
from vitsearch.targets.onnxruntime.exporter import OnnxRuntimeExporter
from vitsearch.workers import backbone_check
from vitsearch.workers.backbone_check import check_backbone

NAME = "test_vit4"  # RMSNorm


@pytest.fixture
def few_precisions(monkeypatch):
    runtime = replace(TARGETS["onnxruntime"], precisions=("fp32", "int8_ptq"))
    for module in (precisions, backbone_check):
        monkeypatch.setattr(module, "TARGETS", {"onnxruntime": runtime})


@exact_int8
def test_every_precision_of_a_model_works():
    check = check_backbone(NAME, ImageSize.square(32), ["onnxruntime"])
    assert check.works
    assert [file.precision for file in check.files] == list(TARGETS["onnxruntime"].precisions)
    by_precision = {file.precision: file for file in check.files}
    assert by_precision["fp32"].difference < 1e-5
    assert 1e-4 < by_precision["int8_ptq"].difference < 0.2
    assert by_precision["int8_ptq"].size_mb < by_precision["fp32"].size_mb
    assert all(file.latency_ms > 0 for file in check.files)
    assert json_of(check)["works"] is True


def test_a_builtin_base_keeps_its_channels_and_says_what_it_does(few_precisions):
    said = []
    check = check_backbone("vit_fmnist_p4", runtimes=["onnxruntime"], doing=said.append)
    assert said == [
        "vit_fmnist_p4: building it at 28 pixels",
        "vit_fmnist_p4: writing fp32 for onnxruntime and running it",
        "vit_fmnist_p4: writing int8_ptq for onnxruntime and running it",
    ]
    assert (check.works, check.resolution) == (True, ImageSize.square(28))
    assert check.params_m == pytest.approx(2.7, abs=0.1)
    assert check.macs_m > 100


@pytest.mark.long
def test_a_precision_that_fails_does_not_hide_the_others(few_precisions, monkeypatch):
    def broken(plain, small, precision, *rest, **named):
        if precision == "int8_ptq":
            raise ValueError("no\nkernel")
        original(plain, small, precision, *rest, **named)

    original = quantize.quantize
    monkeypatch.setattr(quantize, "quantize", broken)
    check = check_backbone(NAME, ImageSize.square(32), ["onnxruntime"])
    assert not check.works
    assert [file.reason for file in check.files] == [None, "ValueError: no kernel"]
    assert check.files[1].latency_ms is None


def test_a_model_that_cannot_be_exported_has_one_reason(few_precisions, monkeypatch):
    def fail(*_):
        raise StageError("export", "crash", "no converter")

    monkeypatch.setattr(OnnxRuntimeExporter, "export", fail)
    check = check_backbone(NAME, ImageSize.square(32), ["onnxruntime"])
    assert not check.works
    assert {file.reason for file in check.files} == {"exporting failed (crash): no converter"}


def test_a_converter_that_is_missing_says_nothing_of_the_model(few_precisions, monkeypatch):
    def fail(*_):
        raise StageError("export", "missing", "run: vitsearch install-converter")

    monkeypatch.setattr(OnnxRuntimeExporter, "export", fail)
    check = check_backbone(NAME, ImageSize.square(32), ["onnxruntime"])
    assert check.works
    assert all(file.is_refused and "install-converter" in file.reason for file in check.files)


@pytest.mark.long
def test_openvino_is_tried_too():
    check = check_backbone("vit_fmnist_p4", runtimes=["openvino"])
    by_precision = {file.precision: file for file in check.files}
    assert by_precision["fp32"].difference < 1e-5
    assert by_precision["int8_ptq"].size_mb < by_precision["fp32"].size_mb


def test_a_model_that_is_refused_is_not_built(monkeypatch):
    monkeypatch.setattr(backbone_check, "_files", lambda *_: pytest.fail("it was built"))
    check = check_backbone("vit_huge_patch14_224", ImageSize.square(224))
    assert not check.works
    assert "cannot be exported" in check.reason
    assert check.params_m is None


@pytest.mark.long
def test_a_refused_precision_is_not_a_failure(few_precisions, monkeypatch):
    family = type(backbone_check.backbones.find(NAME))
    original = family.supports

    def supports(self, name, knob, value):
        return "not here" if (knob, value) == ("quantization", "int8_ptq") else original(self, name, knob, value)

    monkeypatch.setattr(family, "supports", supports)
    check = check_backbone(NAME, ImageSize.square(32), ["onnxruntime"])
    assert check.works
    assert (check.files[1].is_refused, check.files[1].reason) == (True, "not here")


def test_wrong_names_and_sizes_are_errors():
    with pytest.raises(UnknownName, match="did you mean 'test_vit4'"):
        check_backbone("test_vt4")
    with pytest.raises(PlanError, match="not a multiple of the patch size 16"):
        check_backbone(NAME, ImageSize.square(33))
