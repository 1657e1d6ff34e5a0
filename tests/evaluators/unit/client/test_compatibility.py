"""A client refuses a model from the description of the device alone."""

import pytest

from vitsearch_agent.client.compatibility import refuse_incompatible, refuse_too_large
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.wire.protocol import BlobRef, DeviceInfo, RuntimeInfo

MODEL = (BlobRef("model.xml", "ab" * 32, 400_000), BlobRef("model.bin", "cd" * 32, 1_700_000))
ABSENT = RuntimeInfo("openvino", False, "no module openvino", None, (), ("openvino",))


def device(**more):
    return DeviceInfo(3, 3, "0", "id", "physical", "ef" * 32, {}, (ABSENT,), ("measure",), 2_000_000, 0, 0)._replace(
        **more
    )


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"max_blob_bytes": 1_600_000}, "incompatible_artifact", "model.bin has 1700000 bytes"),
        ({"memory_mb": 2}, "out_of_memory", "the model alone has 2 MB; the device has 2 MB"),
    ],
)
def test_too_large_files_and_models_are_refused(more, kind, message):
    with pytest.raises(MeasurementFailed, match=message) as caught:
        refuse_too_large(MODEL, device(**more))
    assert caught.value.kind == kind


@pytest.mark.parametrize("more", [{}, {"memory_mb": 3}])
def test_a_model_that_fits_passes(more):
    refuse_too_large(MODEL, device(**more))


def test_an_unavailable_runtime_is_refused_and_an_unlisted_one_is_left_to_the_agent():
    files = {"model.xml": "/nowhere.xml", "model.bin": "/nowhere.bin"}
    with pytest.raises(
        MeasurementFailed, match="openvino is not available on the device: no module openvino"
    ) as caught:
        refuse_incompatible(files, "openvino", device())
    assert caught.value.kind == "runtime_unavailable"
    refuse_incompatible(files, "another", device())
