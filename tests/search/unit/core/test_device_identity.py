"""Which device a name of a study stands for."""

from __future__ import annotations

import pytest

from vitsearch.core.device_identity import CLASS, DeviceIdentity, NamedDevice, stored_devices
from vitsearch_agent.wire.hardware import Hardware

BOARD = Hardware("jetson-a", "Jetson Nano", "arm 0x41/0xd07", "serial-a", machine_id="system-a")
CONTAINER = Hardware("4f2a", None, "AMD EPYC", machine_id="system-a")
FIRST = DeviceIdentity("1f2e3d4c5b6a", "physical", BOARD)


def with_hardware(hardware: Hardware, device_id: str = FIRST.device_id) -> DeviceIdentity:
    return DeviceIdentity(device_id, "physical", hardware)


@pytest.mark.parametrize(
    ("identity", "is_same", "may_be_same"),
    [
        (FIRST, True, True),
        (with_hardware(BOARD._replace(host="renamed", machine_id="system-b")), True, True),
        (with_hardware(BOARD, "other"), False, True),
        (with_hardware(BOARD._replace(serial="serial-b")), False, False),
        (with_hardware(BOARD._replace(serial="serial-b"), "other"), False, False),
        (DeviceIdentity(FIRST.device_id, "emulated", BOARD), False, False),
        (DeviceIdentity(CLASS + "id", "physical", Hardware("", "Jetson Nano", "arm 0x41/0xd07")), False, False),
    ],
)
def test_a_device_is_told_by_its_id_and_its_hardware(identity, is_same, may_be_same):
    assert (FIRST.is_same(identity), FIRST.may_be_same(identity)) == (is_same, may_be_same)


def test_a_container_that_shows_no_hardware_is_told_by_its_id():
    named, bare = with_hardware(CONTAINER), CONTAINER._replace(machine_id=None, host="9c1d")
    assert named.is_same(with_hardware(bare))
    assert not named.is_same(with_hardware(bare, "other"))
    assert named.may_be_same(with_hardware(bare, "other"))


def test_another_operating_system_on_what_may_be_the_same_machine_is_asked_about():
    moved = with_hardware(CONTAINER._replace(machine_id="system-b"))
    assert not with_hardware(CONTAINER).is_same(moved)
    assert with_hardware(CONTAINER).may_be_same(moved)


def test_boards_of_another_class_are_another_pool():
    pools = [DeviceIdentity(CLASS + name, "physical", Hardware("")) for name in ("a", "b")]
    assert pools[0].is_same(pools[0])
    assert not pools[0].may_be_same(pools[1])


def test_the_first_identity_gives_its_id_and_the_last_one_its_host():
    again = with_hardware(BOARD._replace(host="jetson-b"), "other")
    device = NamedDevice("nano", (FIRST, again))
    assert (device.device_id, device.label) == (FIRST.device_id, "nano@jetson-b")
    assert device.is_same(FIRST)
    assert device.is_same(again)
    assert stored_devices({"devices": {"nano": device.to_json()}}) == {"nano": device}


def test_a_name_is_not_said_twice_and_no_id_stands_alone():
    assert FIRST.label("jetson-a") == "jetson-a"
    assert FIRST.describe("local") == "local@jetson-a: Jetson Nano, arm 0x41/0xd07, id 1f2e3d4c"
