"""An unavailable device: callers wait while the run has other work, and at most until the deadline."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field, replace

import pytest

from vitsearch.core.plan import Deployment
from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices import availability
from vitsearch.devices.agent_device import Outage
from vitsearch.devices.availability import WaitingDevice, still_waiting, stored
from vitsearch.errors import DeviceLost
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger, TrainingRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import SCREEN

DEPLOYMENT = Deployment("nano", "onnxruntime", "cpu", "fp32")


@dataclass
class Silent(FakeDevice):
    """A device that does not answer until `answers` is set."""

    name: str = "nano"
    outage: Outage | None = Outage(0.0, "no route to host")
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def measure(self, artifact, deployment, protocol, repeat):
        await self.answers.wait()
        self.outage = None
        return await super().measure(artifact, deployment, protocol, repeat)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def single_flight(tmp_path, monkeypatch):
    monkeypatch.setattr(availability, "POLL_S", 0.001)
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'study.db'}")
    yield SingleFlight(ledger, FileStore(tmp_path / "artifacts"), DriverId.current())
    ledger.close()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    return path


def measuring(device, model):
    return asyncio.ensure_future(device.measure(model, DEPLOYMENT, SCREEN, 0))


async def some_polls():
    await asyncio.sleep(0.05)


def test_measurement_arrives_after_the_outage(single_flight, clock, model):
    silent = Silent()
    device = WaitingDevice(silent, lambda: Stage.TRAIN in single_flight.running, clock)

    async def wait():
        request = measuring(device, model)
        clock.now_s = silent.deadline_s - 1
        await some_polls()
        assert not request.done()
        silent.answers.set()
        return await request

    assert asyncio.run(wait()).latency_ms.p50 == 2.0
    assert not device.is_unavailable
    assert device.waits() is None


def test_the_device_is_lost_after_its_deadline_without_other_work(single_flight, clock, model):
    device = WaitingDevice(Silent(deadline_s=60.0), lambda: Stage.TRAIN in single_flight.running, clock)

    async def wait():
        request = measuring(device, model)
        await some_polls()
        clock.now_s = 61.0
        await request

    with pytest.raises(DeviceLost, match=r"^device nano: no route to host \(gave up after 61 s without a "):
        asyncio.run(wait())


def test_the_device_is_not_lost_while_other_work_runs(single_flight, clock, model):
    device = WaitingDevice(Silent(deadline_s=60.0), lambda: Stage.TRAIN in single_flight.running, clock)

    async def wait():
        trained = asyncio.Event()

        async def train():
            await trained.wait()
            return TrainingRow("ab" * 32, 1, {"accuracy": 0.9}, None, 100, None), StageCost(1.0, {})

        training = asyncio.ensure_future(single_flight.get(StageKey(Stage.TRAIN, "it"), lambda: None, train))
        request = measuring(device, model)
        for clock.now_s in (61.0, 1e4, 1e5):
            await some_polls()
            assert not request.done()
        trained.set()
        await training
        await request

    with pytest.raises(DeviceLost):
        asyncio.run(wait())


def test_a_short_silence_is_not_an_outage(single_flight, clock):
    device = WaitingDevice(Silent(), lambda: Stage.TRAIN in single_flight.running, clock)
    clock.now_s = availability.OUTAGE_AFTER_S - 1
    assert not device.is_unavailable
    assert device.waits().startswith("waits for device nano, no answer for 14 s: ")
    clock.now_s = 9.0
    assert device.waits() is None
    clock.now_s = 190.0
    assert device.is_unavailable
    assert device.waits() == "waits for device nano, no answer for 3 min: no route to host"


def test_a_stored_outage_is_reported_until_its_run_is_killed():
    me, since = DriverId.current(), Outage(time.monotonic() - 130, "refused")
    text = json.loads(json.dumps(stored("nano", since, me)))
    assert still_waiting(text) == "waits for device nano, no answer for 2 min: refused"
    assert still_waiting(stored("nano", since, replace(me, started="0"))) is None
    assert still_waiting(None) is None
