"""What a device measures is looked up, else measured once; what was disturbed, again."""

from __future__ import annotations

import asyncio
import json

import pytest

from vitsearch.core.plan import Deployment
from vitsearch.core.progress import Silent
from vitsearch.pipeline.measure import CONTENDED_REPEATS, DeviceMeasurements, Measurand
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.testing.fakes import FakeDevice
from vitsearch_evaluators.wire.protocol import CONFIRM, SCREEN

GRAPH = "ab" * 32


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'study.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def wanted(tmp_path) -> Measurand:
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    deployment = Deployment("local", "onnxruntime", "CPUExecutionProvider", "fp32")
    return Measurand(path, "cd" * 32, GRAPH, deployment)


def measuring(ledger, device, wall_clock_decides=False) -> DeviceMeasurements:
    return DeviceMeasurements(ledger, SingleFlight(ledger, DriverId.current()), device, Silent(), wall_clock_decides)


def contended(device, times):
    """The device says for ``times`` measurements that other work disturbed it; returns the repeats it was asked for."""
    measure, asked = device.measure, []

    async def measured(artifact, deployment, protocol, repeat):
        asked.append(repeat)
        found = await measure(artifact, deployment, protocol, repeat)
        return found._replace(flags=("contended",)) if len(asked) <= times else found

    device.measure = measured
    return asked


def test_a_graph_is_measured_once(ledger, wanted):
    device = FakeDevice()
    for _ in range(2):
        found = asyncio.run(measuring(ledger, device).measure(wanted, SCREEN))
    assert found.result["cpu_ms"]["p50"] == 2.0
    assert device.measured == {SCREEN.id: 1}


@pytest.mark.parametrize(("decides", "asked"), [(True, [0, 1]), (False, [0])])
def test_a_disturbed_measurement_is_repeated_when_wall_time_decides(ledger, wanted, decides, asked):
    device = FakeDevice()
    seen = contended(device, 1)
    asyncio.run(measuring(ledger, device, decides).measure(wanted, SCREEN))
    assert seen == asked


def test_the_last_of_disturbed_measurements_stands_flagged(ledger, wanted):
    device = FakeDevice()
    seen = contended(device, 99)
    found = asyncio.run(measuring(ledger, device, wall_clock_decides=True).measure(wanted, SCREEN))
    assert len(seen) == CONTENDED_REPEATS + 1
    assert found.result["flags"] == ["contended"]


def test_doubts_about_the_device_are_told_once(ledger, wanted, monkeypatch):
    device, told = FakeDevice(), []
    monkeypatch.setattr(Silent, "note", lambda self, text: told.append(text))
    measure = device.measure

    async def measured(*arguments):
        return (await measure(*arguments))._replace(flags=("contended", "unverified_device"))

    device.measure = measured
    run = measuring(ledger, device)
    for repeat in range(2):
        asyncio.run(run.measure(wanted, SCREEN, repeat))
    assert told == ["device local: its canary drifted, so its numbers are not trusted now (flag unverified_device)"]


def test_in_another_environment_it_is_measured_again(ledger, wanted):
    device = FakeDevice()
    asyncio.run(measuring(ledger, device).measure(wanted, SCREEN))
    device.info = device.info._replace(environment_id="1" * 64)
    assert measuring(ledger, device).latest(GRAPH, SCREEN) is None
    asyncio.run(measuring(ledger, device).measure(wanted, SCREEN))
    assert device.measured == {SCREEN.id: 2}


def test_once_more_is_once(ledger, wanted):
    device = FakeDevice()
    both = measuring(ledger, device)
    asyncio.run(both.measure(wanted, CONFIRM))
    assert [asyncio.run(both.again(wanted)) for _ in range(2)] == [True, False]
    assert device.measured == {CONFIRM.id: 2}
    assert both.latest(GRAPH, CONFIRM).repeat == 1
