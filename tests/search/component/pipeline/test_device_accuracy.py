"""What a device's classes and the labels of the images make."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.pipeline.device_accuracy import confusion_of, reduction_for
from vitsearch.testing.fakes import FakeDevice


@pytest.mark.parametrize(
    ("classes", "reduction"),
    [(2, "argmax_uint8"), (255, "argmax_uint8"), (256, "argmax_uint16"), (1000, "argmax_uint16")],
)
def test_the_reduction_has_room_for_all_classes(classes, reduction):
    assert reduction_for(classes) == reduction


@pytest.fixture
def kept(tmp_path):
    """The outputs of four images on a fake device, with their labels: kept(classes, reduction)."""
    np.save(tmp_path / "images.npy", np.zeros((4, 1, 1, 1), "f4"))
    np.save(tmp_path / "labels.npy", np.array([0, 1, 2, 2]))
    device, deployment = FakeDevice(), Deployment("local", "onnxruntime", "cpu", "fp32")

    def kept(values, reduction="argmax_uint8"):
        outputs = asyncio.run(device.outputs(tmp_path / "model", tmp_path / "images.npy", deployment, reduction))
        return replace(outputs, values=np.array(values, outputs.values.dtype)), tmp_path / "labels.npy"

    return kept


@pytest.mark.parametrize(("reduction", "reserved"), [("argmax_uint8", 255), ("argmax_uint16", 65535)])
def test_an_image_that_is_not_finite_has_no_class(kept, reduction, reserved):
    confusion = confusion_of(*kept([0, 1, 1, reserved], reduction))
    assert confusion.cells == ((0, 0, 1), (1, 1, 1), (2, -1, 1), (2, 1, 1))
    assert (confusion.correct, confusion.n) == (2, 4)


def test_a_class_above_those_of_a_byte_is_one(kept):
    assert confusion_of(*kept([0, 1, 255, 256], "argmax_uint16")).cells[2:] == ((2, 255, 1), (2, 256, 1))


@pytest.mark.parametrize("values", [[0, 1, 2], [[0, 1]] * 4])
def test_outputs_that_are_no_class_of_each_image_are_refused(kept, values):
    with pytest.raises(StageError, match="for 4 images: expected one class for each"):
        confusion_of(*kept(values))
