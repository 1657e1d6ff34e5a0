"""Which differences between two descriptions of hardware show that it is not the same."""

import pytest

from vitsearch_agent.wire.hardware import UNKNOWN_HARDWARE, Hardware

BOARD = Hardware("nano", "Jetson Nano", "arm 0x41/0xd07", "serial-a", ("card-a", "card-b"), "system-a")


@pytest.mark.parametrize(
    "change",
    [
        {"host": "renamed"},
        {"machine_id": "system-b"},
        {"machine_id": None},
        {"adapters": ("card-c",)},
        {"board": "NVIDIA Jetson Nano Developer Kit"},
        {"serial": None},
        {"serial": None, "adapters": ("card-b",), "machine_id": "system-b"},
        {"serial": None, "adapters": (), "host": "container"},
        {"serial": None, "adapters": (), "machine_id": None},
    ],
)
def test_it_is_the_same_hardware_whatever_changes_on_it(change):
    assert BOARD.differences(BOARD._replace(**change)) == BOARD._replace(**change).differences(BOARD) == ()


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({"serial": "serial-b"}, ("serial number",)),
        ({"processor": "arm 0x41/0xd0b"}, ("processor",)),
        ({"serial": None, "adapters": ("card-c",)}, ("network adapters",)),
        ({"serial": None, "board": "Jetson Orin"}, ("board",)),
        ({"serial": None, "adapters": (), "machine_id": "system-b"}, ("machine-id",)),
    ],
)
def test_it_is_other_hardware_by_the_first_mark_that_both_have(change, differences):
    assert BOARD.differences(BOARD._replace(**change)) == BOARD._replace(**change).differences(BOARD) == differences


def test_what_says_nothing_differs_from_nothing():
    assert UNKNOWN_HARDWARE.differences(BOARD) == ()
    assert UNKNOWN_HARDWARE.describe() == "unknown hardware"
