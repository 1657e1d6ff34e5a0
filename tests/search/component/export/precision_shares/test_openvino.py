"""MACs of the kernels that OpenVINO runs: of the three bases, all that their files have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.marks import long
from vitsearch.export import precision_shares
from vitsearch_agent.runtimes.openvino_runtime import OpenVinoRuntime

pytest.importorskip("openvino")
BASES = ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist")


@pytest.fixture(scope="module")
def computes():
    """The precisions that this CPU computes in."""
    return OpenVinoRuntime().available().precisions


@pytest.mark.parametrize("batch", [1, *long(None)], ids=["batch of 1", "open batch"])
@pytest.mark.parametrize("name", BASES)
@pytest.mark.long
def test_all_macs_of_a_base_are_found_and_are_fp32(exported, in_file, name, batch):
    assert precision_shares.macs(*exported(name, "openvino", "fp32", batch)) == {"fp32": in_file(name)}


@pytest.mark.parametrize(("name", "share"), [("vit_fmnist_p4", 1.0), ("efficientvit_fmnist", 0.930)])
@pytest.mark.long
def test_static_int8_has_most_convolutions_and_products(exported, in_file, name, share):
    pytest.importorskip("nncf")
    file = exported(name, "openvino", "int8_ptq")
    assert sum(precision_shares.macs(*file).values()) == in_file(name)
    assert precision_shares.by_precision(*file)["int8"] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("name", "share"), [*zip(BASES, (0.952, 0.010, 0.445), strict=True)])
@pytest.mark.long
def test_trained_int8_has_the_layers_whose_ranges_were_learned(exported, in_file, name, share):
    file = exported(name, "openvino", "int8_qat")
    assert sum(precision_shares.macs(*file).values()) == in_file(name)
    assert precision_shares.by_precision(*file)["int8"] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_halves_are_known_only_where_the_cpu_computes_in_them(exported, computes, precision):
    shares = precision_shares.by_precision(*exported("efficientvit_fmnist", "openvino", precision))
    assert shares == ({precision: 1.0} if precision in computes else {})


def test_other_processors_are_unknown(exported):
    file, deployment = exported("efficientvit_fmnist", "openvino", "fp32")
    assert precision_shares.by_precision(file, replace(deployment, provider="npu")) == {}


def test_a_model_that_runs_unfused_is_counted_whole(exported, in_file):
    file, deployment = exported("vit_fmnist_p4", "openvino", "fp32")
    unfused = replace(file, options=(("fused_subgraphs", "off"),))
    assert precision_shares.macs(unfused, deployment) == {"fp32": in_file("vit_fmnist_p4")}
