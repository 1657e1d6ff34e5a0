"""What a device's outputs are judged by."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.pipeline.device_accuracy import Subset, reduction_for, values_of
from vitsearch.tasks import CLASSIFICATION
from vitsearch.testing.fakes import FakeDevice


@pytest.mark.parametrize(
    ("classes", "reduction"),
    [(2, "argmax_uint8"), (255, "argmax_uint8"), (256, "argmax_uint16"), (1000, "argmax_uint16")],
)
def test_the_reduction_has_room_for_all_classes(classes, reduction):
    assert reduction_for(classes) == reduction


@pytest.fixture
def outputs(tmp_path):
    """What a fake device gives for four images: outputs(values, reduction)."""
    np.save(tmp_path / "images.npy", np.zeros((4, 1, 1, 1), "f4"))
    device, deployment = FakeDevice(), Deployment("local", "onnxruntime", "cpu", "fp32")

    def outputs(values, reduction="argmax_uint8"):
        kept = asyncio.run(device.outputs(tmp_path / "model", tmp_path / "images.npy", deployment, reduction))
        return replace(kept, values=np.array(values, kept.values.dtype))

    return outputs


@pytest.fixture
def subset(tmp_path):
    np.save(tmp_path / "labels.npy", np.array([0, 1, 2, 2]))
    np.save(tmp_path / "reference.npy", np.eye(6, 3, dtype=np.float32))
    return Subset(tmp_path / "images.npy", tmp_path / "labels.npy", tmp_path / "reference.npy")


@pytest.mark.parametrize(("reduction", "reserved"), [("argmax_uint8", 255), ("argmax_uint16", 65535)])
def test_an_image_that_is_not_finite_has_no_class(outputs, subset, reduction, reserved):
    judged = CLASSIFICATION.judge(values_of(outputs([0, 1, 1, reserved], reduction)), subset.truth(4, "abc"))
    assert judged.tally == [[0, 0, 1], [1, 1, 1], [2, -1, 1], [2, 1, 1]]
    assert judged.figures["accuracy"].value == 0.5


def test_a_class_above_those_of_a_byte_is_one(outputs):
    assert values_of(outputs([0, 1, 255, 256], "argmax_uint16")).tolist() == [0, 1, 255, 256]


def test_outputs_that_were_not_reduced_stay_as_they_are(outputs):
    assert values_of(outputs(np.eye(4, 3), "none")).tolist() == np.eye(4, 3).tolist()


def test_the_reference_has_the_rows_of_the_same_images(subset):
    assert subset.truth(4, "abc").reference.tolist() == np.eye(6, 3)[[0, 1, 3, 4]].tolist()


def test_outputs_of_fewer_images_are_refused(subset):
    with pytest.raises(StageError, match="outputs for 3 images instead of 4"):
        subset.truth(3, "abc")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_no_embedding(outputs, value):
    vectors = np.eye(4, 3)
    vectors[[0, 2], 1] = value
    with pytest.raises(StageError, match="NaN or infinity among the outputs for 2 of 4 images") as failure:
        values_of(outputs(vectors, "none"))
    assert (failure.value.stage, failure.value.kind) == ("device_accuracy", "not_finite")
