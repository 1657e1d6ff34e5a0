"""Opening what a space file asks for: one device, boards of one class, or a fleet."""

from __future__ import annotations

from contextlib import closing

import pytest

from vitsearch.errors import DeviceLost
from vitsearch.search import open_device
from vitsearch.space import SearchSpace
from vitsearch.study.study import Study
from vitsearch.testing.fakes import FakeDevice


@pytest.fixture
def opened(space, monkeypatch):
    """The device of a space with these `devices`; those named `away` do not answer."""

    def connected(name, *_):
        if name == "away":
            raise DeviceLost(f"device {name}: timed out")
        return FakeDevice(name, info=FakeDevice.info._replace(device_id=name))

    def of(devices, note=print):
        searched = SearchSpace.from_json(space.to_json() | {"devices": devices})
        with closing(Study.open(searched)) as study, open_device.open_device(study, searched, None, note) as device:
            return device

    monkeypatch.setattr(open_device, "AgentDevice", connected)
    monkeypatch.setattr(open_device, "connect", lambda *_: None)
    monkeypatch.setattr(open_device, "known_device", lambda *_: None)
    return of


def test_one_device_is_opened_as_it_is(opened):
    device = opened({"nano": "http://nano"})
    assert (device.name, device.parallel, [member.name for member in device.devices]) == ("nano", 1, ["nano"])


def test_a_list_is_one_device_whose_boards_share_the_work(opened):
    device = opened(["a", "b", "c"])
    assert (device.name, device.parallel, [member.name for member in device.devices]) == ("a", 3, ["a"])


def test_several_devices_are_a_fleet_in_which_one_may_have_several_boards(opened):
    device = opened({"nano": "http://nano", "pi5": ["http://pi5-a", "http://pi5-b"]})
    assert (device.name, device.parallel) == ("fleet", 2)
    assert [(member.name, member.parallel) for member in device.devices] == [("nano", 1), ("pi5", 2)]


def test_a_board_that_is_away_at_the_start_is_left_out_with_a_line(opened):
    said = []
    assert opened(["a", "away", "c"], said.append).parallel == 2
    assert said == ["device away: timed out; the run goes on without it"]


@pytest.mark.parametrize("devices", [{"away": {}}, {"nano": {}, "away": {}}, {"nano": {}, "pi5": {"boards": ["away"]}}])
def test_a_run_ends_without_one_of_its_devices(opened, devices):
    with pytest.raises(DeviceLost, match="^device away: timed out$"):
        opened(devices)
