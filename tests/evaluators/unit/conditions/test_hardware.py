"""What is read of a machine's hardware, from trees of files as boards, PCs and containers have them."""

import os

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.hardware import hardware_of, read_hardware

ARM = "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nCPU implementer\t: 0x41\nCPU part\t: 0xd07\n"
PC = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5-8500 CPU @ 3.00GHz\n"
MACHINE_ID = "e08d2021fbdd6f894fde550c98aff54d"


def machine(root, files):
    tree = DeviceTree(str(root))
    for path, content in files.items():
        tree.write(path, content)
    return System(str(root))


def card(system, name, address, bus="pci0000:00/0000:00:1f.6", kind="0"):
    """Add a network adapter; without a bus it is a virtual one."""
    tree, folder = DeviceTree(system.root), f"/sys/class/net/{name}"
    tree.write(folder + "/address", address)
    tree.write(folder + "/addr_assign_type", kind)
    if bus:
        os.makedirs(system.at(f"/sys/devices/{bus}"))
        os.symlink(system.at(f"/sys/devices/{bus}"), system.at(folder + "/device"))


def test_a_board_has_the_serial_number_of_its_device_tree(tmp_path):
    files = {"/proc/cpuinfo": ARM, "/proc/device-tree/model": "NVIDIA Jetson Nano\0"}
    files["/proc/sys/kernel/hostname"] = "nano"
    board, other = (
        read_hardware(machine(tmp_path / serial, {**files, "/proc/device-tree/serial-number": serial + "\0"}))
        for serial in ("1421820011111", "1421820022222")
    )
    assert (board.host, board.board, board.processor) == ("nano", "NVIDIA Jetson Nano", "arm 0x41/0xd07")
    assert board.serial is not None
    assert "1421820011111" not in str(board)
    assert board.differences(other) == ("serial number",)


def test_the_kernel_may_name_the_processor_in_another_way(tmp_path):
    plain = ARM.replace("model name\t: ARMv8 Processor rev 1 (v8l)\n", "")
    before, after = (
        read_hardware(machine(tmp_path / str(len(text)), {"/proc/cpuinfo": text})) for text in (ARM, plain)
    )
    assert before.processor == after.processor


def test_a_pc_has_its_built_in_adapters_with_unique_addresses(tmp_path):
    system = machine(tmp_path, {"/proc/cpuinfo": PC, "/etc/machine-id": MACHINE_ID})
    card(system, "eno1", "3c:ec:ef:11:22:33")
    built_in = read_hardware(system).adapters
    card(system, "usb0", "3c:ec:ef:44:55:66", "pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0")
    card(system, "docker0", "3c:ec:ef:77:88:99", None)
    card(system, "ens5", "02:fc:00:00:00:01", "pci0000:00/0000:00:05.0")
    card(system, "wlan0", "3c:ec:ef:aa:bb:cc", "pci0000:00/0000:00:06.0", "1")
    assert len(built_in) == 1
    assert read_hardware(system).adapters == built_in


@pytest.mark.parametrize("text", ["", "uninitialized", MACHINE_ID[:-1]])
def test_a_container_has_no_machine_id(tmp_path, text):
    assert read_hardware(machine(tmp_path, {"/etc/machine-id": text})).machine_id is None


@pytest.mark.parametrize("placeholder", ["To Be Filled By O.E.M.", "Default string", "0000-0000", "Not Specified", " "])
def test_a_placeholder_is_no_serial_number(tmp_path, placeholder):
    files = {"/sys/class/dmi/id/board_serial": placeholder}
    assert read_hardware(machine(tmp_path / "a", files)).serial is None
    files["/sys/class/dmi/id/product_uuid"] = "4c4c4544-0042-3510-8054-b4c04f564433"
    assert read_hardware(machine(tmp_path / "b", files)).serial is not None


def test_an_emulated_device_computes_on_the_processor_of_its_machine(tmp_path):
    files = {"/proc/cpuinfo": PC, "/etc/machine-id": MACHINE_ID, "/proc/sys/kernel/hostname": "workstation"}
    below = machine(tmp_path / "machine", files)
    tree = machine(tmp_path / "tree", {"/proc/cpuinfo": ARM, "/proc/device-tree/model": "Raspberry Pi 5"})
    hardware = hardware_of(tree, below)
    assert (hardware.host, hardware.board) == ("workstation", "Raspberry Pi 5")
    assert (hardware.processor, hardware.machine_id) == (
        read_hardware(below).processor,
        read_hardware(below).machine_id,
    )
