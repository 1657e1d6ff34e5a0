"""What a device's outputs are judged by."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.preprocessing import ModelView
from vitsearch.errors import StageError
from vitsearch.pipeline.device_accuracy import DeviceAccuracy, Subset, reduction_for, values_of
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.driver_id import DriverId
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


@pytest.fixture
def judge(ledger, tmp_path):
    """Judges a model on a device, on at most `images` of five images; `judge.device` is the device."""
    device, resolution = FakeDevice(), ImageSize(28, 28)

    async def path():
        return tmp_path / "model"

    async def subset(view, images):
        file = tmp_path / f"{'labels' if view is None else 'images'}-{images}.npy"
        count = min(images, 5)
        np.save(file, np.arange(count) if view is None else np.zeros((count, 1, 1, 1), "f4"))
        return file

    async def no_reference(split):
        return None

    shared = SimpleNamespace(subset=subset, truth_file=no_reference)
    flight = SingleFlight(ledger, SimpleNamespace(is_remote=False), DriverId.current())
    context = SimpleNamespace(ledger=ledger, single_flight=flight, stage=lambda stage: contextlib.nullcontext())
    data = SimpleNamespace(classes=10, channels=1)
    artifact = SimpleNamespace(artifact_key="a" * 64, preprocessing=None)
    file = SimpleNamespace(path=path, deployment=Deployment("local", "onnxruntime", "cpu", "fp32"))

    def judge(images):
        config = SimpleNamespace(
            data=data,
            device_images={device.name: images},
            is_labelled=True,
            judged_by="c" * 64,
            task=CLASSIFICATION,
            class_names=tuple("abcdefghij"),
        )

        async def answer():
            accuracy = DeviceAccuracy(config, context, shared, device)
            await accuracy.prepare([ModelView(resolution, None)])
            return await accuracy.ask(artifact, file, resolution)

        return asyncio.run(answer())

    judge.device = device
    return judge


def test_a_device_is_asked_again_for_more_images_and_not_for_fewer(judge):
    assert [judge(images).n for images in (2, 4, 3, 100, 200)] == [2, 4, 4, 5, 5], "there are five"
    assert judge.device.measured["outputs"] == 3
