"""A device whose agent has another id than the one that measured for the study first."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from vitsearch.core.plan import Deployment
from vitsearch.devices.recognized_device import RecognizedDevice
from vitsearch.errors import StudyError
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import SCREEN

DEPLOYMENT = Deployment("nano", "onnxruntime", "cpu", "fp32")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    return path


def test_results_have_the_id_by_which_the_study_knows_the_device(model, tmp_path):
    adopted = []
    device = RecognizedDevice(FakeDevice("nano"), "first", lambda: adopted.append(1))
    assert device.info.device_id == "first"
    assert adopted == []
    measured = [asyncio.run(device.measure(model, DEPLOYMENT, SCREEN, repeat)) for repeat in (0, 1)]
    np.save(tmp_path / "images.npy", np.zeros((10, 1, 1, 1), "f4"))
    kept = asyncio.run(device.outputs(model, tmp_path / "images.npy", DEPLOYMENT, "argmax_uint8"))
    assert {result.device_id for result in (*measured, kept.result)} == {"first"}
    assert adopted == [1]


def test_nothing_is_measured_for_a_study_that_has_another_device_by_now(model):
    def refuse():
        raise StudyError("nano is another device")

    own = FakeDevice("nano")
    with pytest.raises(StudyError, match="another device"):
        asyncio.run(RecognizedDevice(own, "first", refuse).measure(model, DEPLOYMENT, SCREEN, 0))
    assert not own.measured
