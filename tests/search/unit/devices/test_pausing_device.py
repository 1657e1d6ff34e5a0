"""A device on the machine of its workers: they pause while it measures, seldom, and never without need."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.plan import Deployment
from vitsearch.devices import pausing_device
from vitsearch.devices.agent_device import Outage
from vitsearch.devices.pausing_device import MAX_PAUSE_S, RUN_PER_PAUSE, PausingDevice, seconds_to_wait
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

DEPLOYMENT = Deployment("local", "onnxruntime", "cpu", "fp32")
SHARES = st.floats(0.0, 1.0)
SECONDS = st.floats(0.0, 3600.0)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Workers:
    """Counts requests. `log` is shared with the device."""

    log: list[str]
    busy: float = 1.0
    can_make_room: bool = True

    def pause(self) -> None:
        if self.log[-1:] != ["pause"]:
            self.log.append("pause")

    def make_room(self) -> None:
        self.log.append("make room")

    def resume(self) -> None:
        self.log.append("resume")


@dataclass
class TimedDevice(FakeDevice):
    """A measurement takes `seconds` of the clock, and ends when `may_end` is set."""

    clock: Clock = field(default_factory=Clock)
    log: list[str] = field(default_factory=list)
    seconds: float = 5.0
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def measure(self, artifact, deployment, protocol, repeat):
        await self.may_end.wait()
        self.clock.now_s += self.seconds
        self.log.append(f"measure {repeat}")
        return None


@dataclass
class Machine:
    device: TimedDevice
    workers: Workers
    pausing: PausingDevice

    @property
    def log(self) -> list[str]:
        return self.workers.log

    async def measure(self, *repeats: int) -> None:
        requests = (self.pausing.measure(Path("model"), DEPLOYMENT, CONFIRM, repeat) for repeat in repeats)
        await asyncio.gather(*requests)

    async def ended(self) -> None:
        """Return when the pause is over."""
        while self.log[-1:] != ["resume"]:
            await asyncio.sleep(0)


@pytest.fixture
def machine(monkeypatch):
    for name in ("LINGER_S", "LOOK_S", "RENEW_S"):
        monkeypatch.setattr(pausing_device, name, 0.001)
    device = TimedDevice()
    device.may_end.set()
    workers = Workers(device.log)
    return Machine(device, workers, PausingDevice(device, workers, device.clock))


@given(SHARES, SECONDS, SECONDS)
def test_idle_workers_are_never_waited_for(busy, ran_s, paused_s):
    assert seconds_to_wait(0.0, ran_s, paused_s) == 0.0
    assert 0.0 <= seconds_to_wait(busy, ran_s, paused_s) <= seconds_to_wait(1.0, ran_s, paused_s)


@given(SHARES, SECONDS, SECONDS)
def test_the_wait_is_over_after_exactly_the_time_that_it_gives(busy, ran_s, paused_s):
    wait_s = seconds_to_wait(busy, ran_s, paused_s)
    assert seconds_to_wait(busy, ran_s + wait_s, paused_s) == pytest.approx(0.0, abs=1e-6)
    assert wait_s <= RUN_PER_PAUSE * MAX_PAUSE_S


@given(st.lists(st.floats(0.1, MAX_PAUSE_S), min_size=1, max_size=50))
def test_busy_workers_keep_their_share_of_the_time_however_much_is_to_be_measured(pauses_s):
    ran_s = sum(seconds_to_wait(1.0, 0.0, paused_s) for paused_s in pauses_s)
    assert ran_s >= (1.0 - 1e-9) * RUN_PER_PAUSE * sum(pauses_s)


@pytest.mark.parametrize(
    ("runtime", "protocol", "quiet"),
    [
        ("onnxruntime", SCREEN, False),
        ("openvino", SCREEN, False),
        ("litert", SCREEN, False),
        ("coreml", SCREEN, True),
        ("openvino", CONFIRM, True),
    ],
)
def test_workers_pause_only_for_what_they_would_disturb(machine, runtime, protocol, quiet):
    deployment = Deployment("local", runtime, "cpu", "fp32")
    asyncio.run(machine.pausing.measure(Path("model"), deployment, protocol, 0))
    assert ("pause" in machine.log) == quiet


def test_workers_make_room_for_a_screening_measurement(machine):
    async def run():
        await machine.pausing.measure(Path("model"), DEPLOYMENT, SCREEN, 0)
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["make room", "measure 0", "resume"]


def test_they_make_room_once_for_what_is_measured_together(machine):
    async def run():
        await asyncio.gather(
            *(machine.pausing.measure(Path("model"), DEPLOYMENT, SCREEN, repeat) for repeat in range(3))
        )
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["make room", "measure 0", "measure 1", "measure 2", "resume"]


def test_a_screening_measurement_that_has_waited_for_the_end_of_a_pause_finds_room(machine, monkeypatch):
    async def run():
        may_end = [asyncio.Event(), asyncio.Event()]

        async def measure(artifact, deployment, protocol, repeat):
            await may_end[repeat].wait()
            machine.log.append(f"measure {repeat}")

        monkeypatch.setattr(machine.device, "measure", measure)
        confirming = asyncio.ensure_future(machine.measure(0))
        while machine.log != ["pause"]:
            await asyncio.sleep(0)
        screening = asyncio.ensure_future(machine.pausing.measure(Path("model"), DEPLOYMENT, SCREEN, 1))
        may_end[0].set()
        while machine.log[-1] != "make room":
            await asyncio.sleep(0)
        may_end[1].set()
        await asyncio.gather(confirming, screening)
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["pause", "measure 0", "make room", "measure 1", "resume"]


def test_without_a_core_of_its_own_a_device_needs_a_pause_for_everything(machine):
    machine.workers.can_make_room = False
    asyncio.run(machine.pausing.measure(Path("model"), DEPLOYMENT, SCREEN, 0))
    assert machine.log[0] == "pause"


def test_what_waits_is_measured_in_one_pause(machine):
    async def run():
        await machine.measure(0, 1, 2)
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["pause", "measure 0", "measure 1", "measure 2", "resume"]


def test_busy_workers_run_for_a_while_before_the_next_pause(machine):
    async def run():
        await machine.measure(0)
        await machine.ended()
        second = asyncio.ensure_future(machine.measure(1))
        await asyncio.sleep(0.02)
        assert machine.log[-1] == "resume"
        machine.device.clock.now_s += 2.0 * RUN_PER_PAUSE * machine.device.seconds
        await second

    asyncio.run(run())
    assert machine.log[:5] == ["pause", "measure 0", "resume", "pause", "measure 1"]


def test_a_measurement_starts_as_soon_as_the_workers_have_nothing_to_do(machine):
    async def run():
        await machine.measure(0)
        await machine.ended()
        machine.workers.busy = 0.0
        await machine.measure(1)

    asyncio.run(run())
    assert "measure 1" in machine.log


def test_a_repeat_of_a_measurement_does_not_end_the_pause(machine, monkeypatch):
    monkeypatch.setattr(pausing_device, "LINGER_S", 0.2)

    async def run():
        await machine.measure(0)
        await machine.measure(1)
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["pause", "measure 0", "measure 1", "resume"]


def test_a_long_pause_is_not_joined(machine):
    machine.device.seconds = MAX_PAUSE_S + 1.0
    machine.workers.busy = 0.0

    async def run():
        await machine.measure(0, 1)
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["pause", "measure 0", "resume", "pause", "measure 1", "resume"]


def test_workers_run_while_the_device_is_unavailable(machine):
    async def run():
        machine.device.may_end.clear()
        measuring = asyncio.ensure_future(machine.measure(0))
        while machine.log != ["pause"]:
            await asyncio.sleep(0)
        machine.device.outage = Outage(0.0, "the agent was killed")
        await machine.ended()
        machine.device.outage = None
        while machine.log[-1] != "pause":
            await asyncio.sleep(0)
        machine.device.may_end.set()
        await measuring

    asyncio.run(run())
    assert machine.log[machine.log.index("measure 0") - 1] == "pause"


@pytest.mark.parametrize("waits", [True, False])
def test_a_cancelled_measurement_leaves_nothing_paused(machine, waits):
    async def run():
        machine.device.may_end.clear()
        first = asyncio.ensure_future(machine.measure(0))
        second = asyncio.ensure_future(machine.measure(1))
        await asyncio.sleep(0.01)
        for task in (second, first) if waits else (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await machine.ended()

    asyncio.run(run())
    assert machine.log[-1] == "resume"


def test_a_failed_measurement_leaves_nothing_paused(machine, monkeypatch):
    async def fail(*_):
        raise ValueError("the model is broken")

    async def run():
        monkeypatch.setattr(machine.device, "measure", fail)
        with pytest.raises(ValueError, match="the model is broken"):
            await machine.measure(0)
        await machine.ended()

    asyncio.run(run())
    assert machine.log == ["pause", "resume"]


def test_closing_lets_the_workers_continue(machine):
    asyncio.run(machine.measure(0))  # the event loop ends before the pause does
    machine.pausing.close()
    assert machine.log == ["pause", "measure 0", "resume"]


def test_nothing_pauses_for_outputs(machine, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1, 1, 1, 1), "f4"))
    asyncio.run(machine.pausing.outputs(Path("model"), tmp_path / "images.npy", DEPLOYMENT, "argmax_uint8"))
    assert machine.log == []


def test_the_next_in_the_queue_pauses_workers_that_ran_through_an_outage(machine):
    async def run():
        machine.device.may_end.clear()
        first, second = (asyncio.ensure_future(machine.measure(number)) for number in range(2))
        machine.device.outage = Outage(0.0, "the agent was killed")
        await machine.ended()
        machine.device.outage = None
        machine.device.may_end.set()
        await asyncio.gather(first, second)

    asyncio.run(run())
    assert machine.log[machine.log.index("measure 0") + 1 :][:2] == ["pause", "measure 1"]
