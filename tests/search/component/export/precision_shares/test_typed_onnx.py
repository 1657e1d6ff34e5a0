"""MACs by the types of an ONNX file; onnxruntime's files stand for those of a runtime that is not here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.export import precision_shares


@pytest.fixture
def types_of(exported):
    def read(name, precision):
        file, deployment = exported(name, "onnxruntime", precision)
        return precision_shares.by_precision(file, replace(deployment, runtime="tensorrt", provider="gpu"))

    return read


def test_floats_count_by_their_type(types_of):
    assert types_of("efficientvit_fmnist", "fp32") == {"fp32": 1.0}
    assert types_of("efficientvit_fmnist", "fp16") == {"fp16": 1.0}


def test_products_between_rounded_tensors_are_int8(exported):
    file, deployment = exported("vit_fmnist_p4", "tensorrt", "int8_ptq")
    assert precision_shares.by_precision(file, deployment) == pytest.approx({"int8": 0.952, "fp16": 0.048}, abs=2e-3)


def test_what_int8_leaves_to_a_flag_is_unknown(types_of):
    assert types_of("vit_fmnist_p4", "int8_ptq") == {}


def test_a_file_that_is_compiled_with_a_flag_is_unknown(exported):
    file, deployment = exported("efficientvit_fmnist", "onnxruntime", "fp32")
    assert (
        precision_shares.by_precision(file, replace(deployment, runtime="tensorrt", provider="gpu", precision="fp16"))
        == {}
    )
