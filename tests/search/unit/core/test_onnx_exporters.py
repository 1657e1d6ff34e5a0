"""Which of torch's exporters writes an architecture."""

from __future__ import annotations

import pytest

from vitsearch.core.onnx_exporters import DYNAMO, NEEDS_DYNAMO, TORCHSCRIPT, exporter_of, needs_dynamo


@pytest.mark.parametrize(
    "name",
    [
        *("csatv2", "csatv2_21m", "hiera_small_abswin_256", "naflexvit_base_patch16_gap", "pvt_v2_b2_li", "vgg11_bn"),
        *("volo_d1_224", "volo_d5_512.sail_in1k", "haloregnetz_b", "lamhalobotnet50ts_256", "bat_resnext26ts"),
    ],
)
def test_some_architectures_need_the_new_exporter_with_or_without_a_tag(name):
    assert exporter_of(name) == DYNAMO
    assert needs_dynamo(name) in NEEDS_DYNAMO.values()


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "hiera_tiny_224.mae", "pvt_v2_b2", "repvgg_a0", "vit_fmnist_p4", "no.volo_d1_224"]
)
def test_all_others_are_written_by_the_fast_one(name):
    assert exporter_of(name) == TORCHSCRIPT
    assert needs_dynamo(name) is None


def test_each_reason_reads_on_after_because():
    assert all(reason.startswith(("it ", "its ")) for reason in NEEDS_DYNAMO.values())
