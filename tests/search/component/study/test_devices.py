"""One name in a study is one device, from its first measurement on."""

from __future__ import annotations

import pytest

from vitsearch.core.device_identity import CLASS, DeviceIdentity
from vitsearch.errors import StudyError, UnknownName
from vitsearch.study.devices import accept_device, adopt_device, recognize_device, shown_target, shown_worker
from vitsearch_agent.wire.hardware import Hardware

BOARD = Hardware("jetson-a", "Jetson Nano", "arm 0x41/0xd07", "serial-a")
FIRST = DeviceIdentity("1f2e3d4c5b6a", "physical", BOARD)
CLONE = DeviceIdentity(FIRST.device_id, "physical", BOARD._replace(host="jetson-b", serial="serial-b"))
REINSTALLED = DeviceIdentity("99aa88bb77cc", "physical", BOARD)


@pytest.fixture
def study(open_study):
    """A study that was measured on `nano`."""
    study, _ = open_study(devices={"nano": {}})
    adopt_device(study, "nano", FIRST, "small")
    return study


def test_a_study_takes_any_device_before_its_first_measurement(open_study):
    study, _ = open_study()
    assert recognize_device(study, "local", FIRST, "small") == FIRST.device_id
    assert study.devices == {}
    assert recognize_device(study, "local", CLONE, "small") == CLONE.device_id


@pytest.mark.parametrize(
    ("identity", "differs"),
    [
        (CLONE, "it differs by serial number"),
        (DeviceIdentity("emu-77", "emulated", BOARD), "that one is physical, this one emulated"),
        (DeviceIdentity(CLASS + "0a1b", "physical", Hardware("", "Jetson Nano")), "it differs by class of the boards"),
    ],
)
def test_another_device_is_refused_with_both_and_the_ways_on(study, identity, differs):
    with pytest.raises(StudyError) as refused:
        recognize_device(study, "nano", identity, "spaces/small.yaml")
    text = str(refused.value)
    assert text.startswith("study 'fake': nano is another device than the one that measured")
    assert text.splitlines()[0].endswith(f"measurements of two devices do not compare ({differs})")
    assert f"  measured on  {FIRST.describe('nano')}\n" in text
    assert f"  found now    {identity.describe('nano')}\n" in text
    assert "vitsearch retarget spaces/small.yaml --device NEW_NAME" in text
    for way in ("a pool", "another name in the space file"):
        assert way in text
    assert "accept" not in text
    with pytest.raises(StudyError, match="is another device"):
        accept_device(study, "nano", identity, "small")


def test_another_id_on_the_same_hardware_is_asked_about(study):
    with pytest.raises(StudyError, match="\n  vitsearch devices accept nano 'my study.yaml'\n") as refused:
        recognize_device(study, "nano", REINSTALLED, "my study.yaml")
    assert "its hardware is the same" in str(refused.value)


def test_what_was_accepted_measures_under_the_first_id(study):
    assert accept_device(study, "nano", REINSTALLED, "small")
    assert recognize_device(study, "nano", REINSTALLED, "small") == FIRST.device_id
    assert recognize_device(study, "nano", FIRST, "small") == FIRST.device_id
    assert not accept_device(study, "nano", REINSTALLED, "small")


def test_a_device_that_measured_nothing_cannot_be_accepted(study):
    with pytest.raises(UnknownName, match="nano"):
        accept_device(study, "nanu", FIRST, "small")


def test_of_two_drivers_with_two_devices_the_first_measures(study, open_study):
    """Both have begun when nothing was measured."""
    other, _ = open_study(devices={"nano": {}})
    with pytest.raises(StudyError, match="is another device"):
        adopt_device(other, "nano", CLONE, "small")
    assert [device.latest for device in other.devices.values()] == [FIRST]


@pytest.mark.parametrize("devices", [{"b": {}}, {}, {"nano": {}, "b": {}}])
def test_a_study_does_not_go_on_with_devices_of_other_names(study, open_study, devices):
    with pytest.raises(StudyError, match="was measured on other devices than the space file has now") as refused:
        open_study(devices=devices)
    assert FIRST.describe("nano") in str(refused.value)
    assert f"vitsearch retarget STUDY --device {next(iter(devices), 'local')}" in str(refused.value)
    assert list(study.space().devices) == ["nano"]


def test_before_the_first_measurement_the_devices_may_change(open_study):
    open_study(devices={"nano": {}})
    study, _ = open_study(devices={"b": {}})
    assert study.space().device_names == ("b",)


def test_a_study_is_emulated_by_the_devices_of_its_space(study):
    assert not study.is_emulated
    adopt_device(study, "target", DeviceIdentity("emu-1", "emulated", BOARD), "small")
    assert not study.is_emulated
    study.remember("devices", {"nano": [DeviceIdentity("emu-1", "emulated", BOARD).to_json()]})
    assert study.is_emulated


def test_a_person_reads_names_with_hosts(study):
    assert shown_worker("device nano", study.devices) == "device nano@jetson-a"
    assert shown_worker("worker host/12", study.devices) == "worker host/12"
    assert shown_target("nano+threads2", study.devices) == "nano@jetson-a+threads2"
    assert shown_target("unknown", study.devices) == "unknown"
