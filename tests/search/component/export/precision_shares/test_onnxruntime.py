"""MACs of the graph that onnxruntime has optimized: of the three bases, all that their files have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.marks import long
from vitsearch.export import precision_shares

BASES = ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist")


@pytest.mark.parametrize("batch", [1, None], ids=["batch of 1", "open batch"])
@pytest.mark.parametrize("name", BASES)
@pytest.mark.long
def test_all_macs_of_a_base_are_found_and_are_fp32(exported, in_file, name, batch):
    assert precision_shares.macs(*exported(name, "onnxruntime", "fp32", batch)) == {"fp32": in_file(name)}


@pytest.mark.parametrize("precision", ["int8_ptq", *long("int8_dynamic", "int8_qat")])
@pytest.mark.parametrize(("name", "share"), [*zip(BASES, (0.952, 0.010, 0.445), strict=True)])
def test_the_share_of_int8_is_that_of_linear_layers(exported, in_file, name, precision, share):
    file = exported(name, "onnxruntime", precision)
    assert sum(precision_shares.macs(*file).values()) == in_file(name)
    assert precision_shares.by_precision(*file) == pytest.approx({"int8": share, "fp32": 1 - share}, abs=1e-3)


@pytest.mark.parametrize("precision", ["int8_ptq", "int8_qat"])
@pytest.mark.parametrize(("name", "share"), [("efficientvit_fmnist", 0.835), ("mobilevit_fmnist", 0.871)])
@pytest.mark.long
def test_quantized_convolutions_count_as_int8(exported, in_file, name, precision, share):
    file = exported(name, "onnxruntime", precision, ops="all")
    assert sum(precision_shares.macs(*file).values()) == in_file(name)
    assert precision_shares.by_precision(*file) == pytest.approx({"int8": share, "fp32": 1 - share}, abs=1e-3)


def test_fp16_is_cast_to_fp32_on_a_cpu(exported):
    assert precision_shares.by_precision(*exported("efficientvit_fmnist", "onnxruntime", "fp16")) == {"fp32": 1.0}


def test_weights_in_int8_are_multiplied_in_int8(exported):
    """onnxruntime rounds the activations too (`accuracy_level` 4 is its default), although nobody asked for it."""
    assert precision_shares.by_precision(*exported("vit_fmnist_p4", "onnxruntime", "int8_weights"))["int8"] > 0.95


def test_the_largest_share_comes_first_and_all_are_one(exported):
    shares = precision_shares.by_precision(*exported("vit_fmnist_p4", "onnxruntime", "int8_dynamic"))
    assert list(shares) == ["int8", "fp32"]
    assert sum(shares.values()) == pytest.approx(1)


def test_a_provider_that_this_machine_lacks_is_unknown(exported):
    file, deployment = exported("efficientvit_fmnist", "onnxruntime", "fp32")
    assert precision_shares.by_precision(file, replace(deployment, provider="qnn")) == {}
