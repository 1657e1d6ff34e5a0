"""Devices of several classes as one group: its identity, its outages, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from vitsearch.devices import availability
from vitsearch.devices.agent_device import Outage
from vitsearch.devices.availability import WaitingDevice
from vitsearch.devices.fleet import FleetDevice, WaitingFleet, waiting
from vitsearch.errors import ResourceError
from vitsearch.testing.fakes import FakeDevice


def device(name, **changes):
    return FakeDevice(name, info=FakeDevice.info._replace(**{"device_id": name} | changes))


def fleet(*names):
    return FleetDevice([device(name) for name in names])


def test_a_fleet_has_an_id_of_its_own_and_another_one_with_another_device():
    assert fleet("nano", "pi5").info.device_id == fleet("nano", "pi5").info.device_id
    assert fleet("nano", "pi5").info.device_id != fleet("nano", "orin").info.device_id


def test_a_changed_environment_of_one_device_changes_that_of_the_fleet():
    devices = [device("nano"), device("pi5")]
    before = FleetDevice(devices).info
    devices[1].info = devices[1].info._replace(environment_id="f" * 64)
    after = FleetDevice(devices).info
    assert (before.device_id == after.device_id, before.environment_id == after.environment_id) == (True, False)


def test_one_device_under_two_names_is_refused():
    with pytest.raises(ResourceError, match="^devices: nano and pi5 are the same device$"):
        FleetDevice([device("nano"), device("pi5", device_id="nano")])


def test_an_emulated_device_beside_a_real_one_is_refused():
    with pytest.raises(ResourceError, match="^devices: nano is physical and pi5 is emulated, so their measurements"):
        FleetDevice([device("nano", kind="physical"), device("pi5", kind="emulated")])


def test_it_takes_as_many_models_as_its_widest_device():
    wide = device("pi5")
    wide.parallel = 3
    assert FleetDevice([device("nano"), wide]).parallel == 3


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(availability, "OUTAGE_AFTER_S", 5.0)
    devices = [device("nano"), device("pi5")]
    clock = [100.0]
    group = WaitingFleet([WaitingDevice(board, lambda: False, lambda: clock[0]) for board in devices])
    return group, devices, clock


def test_a_fleet_is_out_while_one_of_its_devices_is_and_says_which(silent):
    group, (nano, pi5), _ = silent
    assert (group.outage, group.unavailable, group.waits(), group.is_unavailable) == (None, None, None, False)
    pi5.outage = Outage(90.0, "timed out")
    assert (group.outage, group.unavailable, group.is_unavailable) == (Outage(90.0, "timed out"), "pi5", True)
    assert group.waits() == "waits for device pi5, no answer for 10 s: timed out"
    nano.outage = Outage(80.0, "refused")
    assert group.unavailable == "nano"
    assert group.waits() == (
        "waits for device nano, no answer for 20 s: refused; waits for device pi5, no answer for 10 s: timed out"
    )


def test_a_short_silence_of_one_device_is_no_outage(silent):
    group, (nano, _), _ = silent
    nano.outage = Outage(97.0, "timed out")
    assert group.outage is None


def test_the_queue_of_a_device_is_told(silent):
    group, (_, pi5), _ = silent
    assert asyncio.run(group.waits_in_queue()) is None
    pi5.queue = "waits for device pi5: 2 jobs are before ours"
    assert asyncio.run(group.waits_in_queue()) == "waits for device pi5: 2 jobs are before ours"


def test_one_device_waits_by_itself():
    single = device("nano")
    assert isinstance(waiting(single, lambda: False), WaitingDevice)
    assert isinstance(waiting(fleet("nano", "pi5"), lambda: False), WaitingFleet)
