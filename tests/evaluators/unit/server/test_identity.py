"""The identity of a state folder: one for each hardware on which it was used."""

import os
import shutil

import pytest

from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server.identity import device_identity
from vitsearch_agent.wire.hardware import Hardware

BOARD = Hardware("nano", "Jetson Nano", "arm 0x41/0xd07", "serial-a")
OTHER = BOARD._replace(serial="serial-b")


def test_the_identity_is_created_once(tmp_path):
    first = device_identity(str(tmp_path), BOARD)
    assert first == device_identity(str(tmp_path), BOARD)
    assert (first.kind, first.hardware) == ("physical", BOARD)
    assert len(first.device_id) == 32
    assert os.listdir(str(tmp_path)) == ["device.json"]


def test_an_emulated_device_has_an_identity_of_its_own(tmp_path):
    physical = device_identity(str(tmp_path), BOARD)
    emulated = device_identity(str(tmp_path), BOARD, emulated=True)
    assert emulated.kind == "emulated"
    assert emulated.device_id.startswith("emu-")
    assert emulated == device_identity(str(tmp_path), BOARD, emulated=True)
    assert physical == device_identity(str(tmp_path), BOARD)


def test_a_copied_folder_is_another_device_on_other_hardware(tmp_path):
    (tmp_path / "card").mkdir()
    first = device_identity(str(tmp_path / "card"), BOARD)
    shutil.copytree(str(tmp_path / "card"), str(tmp_path / "clone"))
    clone = device_identity(str(tmp_path / "clone"), OTHER)
    assert clone.device_id != first.device_id
    assert clone == device_identity(str(tmp_path / "clone"), OTHER)


def test_a_card_that_comes_back_is_the_first_device_again(tmp_path):
    first = device_identity(str(tmp_path), BOARD)
    device_identity(str(tmp_path), OTHER)
    assert device_identity(str(tmp_path), BOARD) == first


def test_what_was_learnt_on_other_hardware_is_forgotten(tmp_path):
    device_identity(str(tmp_path), BOARD)
    (tmp_path / "cache").mkdir()
    for name in ("canary.json", "references.json", "runtimes.json", "tokens.json"):
        (tmp_path / name).write_text("{}")
    device_identity(str(tmp_path), BOARD)
    assert (tmp_path / "canary.json").exists()
    device_identity(str(tmp_path), OTHER)
    assert sorted(os.listdir(str(tmp_path))) == ["device.json", "tokens.json"]


def test_marks_that_only_root_may_read_stay_known(tmp_path):
    first = device_identity(str(tmp_path), BOARD._replace(machine_id="system"))
    device_identity(str(tmp_path), BOARD._replace(serial=None, machine_id="system"))
    assert device_identity(str(tmp_path), OTHER._replace(machine_id="system")).device_id != first.device_id


@pytest.mark.parametrize("content", ["", "[]", '[{"kind": "physical"}]'])
def test_a_damaged_identity_is_reported_and_never_replaced(tmp_path, content):
    """A new id would make this a new device and orphan the measurements of every study."""
    (tmp_path / "device.json").write_text(content)
    with pytest.raises(InvalidRequest, match=r"device\.json cannot be read .*restore it, or remove it"):
        device_identity(str(tmp_path), BOARD)
    assert (tmp_path / "device.json").read_text() == content
