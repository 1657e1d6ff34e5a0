"""What is read of processors: real ones, virtual ones, and ones whose instructions are translated."""

import os

import pytest

from vitsearch_agent.base.system import Output, System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.processor import (
    QEMU_USER,
    ROSETTA,
    TCG,
    core_count,
    describe_translation,
    features,
    is_virtual,
    translator,
)

QEMU_MAX = """\
processor\t: 0
model name\t: ARMv8 Processor rev 0 (v8l)
BogoMIPS\t: 100.00
Features\t: fp asimd aes crc32 atomics fphp asimdhp asimddp sve sve2 svei8mm svebf16 i8mm bf16 sme
CPU implementer\t: 0x00
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0x051
CPU revision\t: 0
"""
"""Printed by qemu-aarch64 10.0.13 on Linux 6.18, shortened."""
PI5 = "processor\t: 0\nFeatures\t: fp asimd aes crc32 asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
NANO = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x41\nCPU part\t: 0xd07\n"
XEON = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: {}\nflags\t\t: fpu avx2 fma {}\n"
GUEST = XEON.format("Intel(R) Xeon(R) Processor", "avx512_vnni amx_int8 hypervisor")
CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
PRODUCT = "/sys/class/dmi/id/product_name"
TCG_CLOCKS = "tsc hpet acpi_pm"
"""Of QEMU 10.0.13 without KVM, with the processors qemu64, max and Skylake-Client, under Linux 6.12."""


@pytest.fixture
def machine(tmp_path):
    """machine(cpuinfo, detected, **files): a system; `detected` is what systemd-detect-virt prints, if it is there."""

    def make(cpuinfo, detected=None, files=()):
        tree = DeviceTree(str(tmp_path))
        for path, text in {"/proc/cpuinfo": cpuinfo, **dict(files)}.items():
            tree.write(path, text)
        answer = Output("", "it does not exist") if detected is None else Output(detected + "\n", None)
        return System(str(tmp_path), run=lambda argv: answer)

    return make


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (PI5, ["asimd", "asimddp", "asimdhp"]),
        (NANO, ["asimd"]),
        (GUEST, ["amx_int8", "avx2", "avx512_vnni", "fma"]),
        ("processor\t: 0\n", None),
    ],
)
def test_the_features_are_those_that_choose_kernels(machine, cpuinfo, expected):
    assert features(machine(cpuinfo)) == expected


def test_the_cores_are_counted(machine):
    assert core_count(machine(NANO * 4)) == 4
    assert core_count(machine("")) is None


def test_a_program_of_another_architecture_than_the_kernel_is_translated(machine):
    system = machine(QEMU_MAX, files={"/proc/sys/kernel/arch": "x86_64"})
    assert translator(system, "aarch64") == QEMU_USER
    assert describe_translation(system) == {"method": "translated instructions", "translator": QEMU_USER}


@pytest.mark.parametrize(("cpuinfo", "machine_name"), [(GUEST, "aarch64"), (PI5, "x86_64")])
def test_an_old_kernel_and_an_old_translator_show_the_other_processor(machine, cpuinfo, machine_name):
    assert translator(machine(cpuinfo), machine_name) == QEMU_USER


@pytest.mark.parametrize(
    ("kernel", "program"), [("x86_64", "i686"), ("aarch64", "armv7l"), ("aarch64", "armv8l"), ("riscv64", "riscv64")]
)
def test_a_32_bit_program_on_a_64_bit_kernel_is_not_translated(machine, kernel, program):
    assert translator(machine("processor\t: 0\n", files={"/proc/sys/kernel/arch": kernel}), program) is None


def test_a_recorded_device_is_not_compared_with_the_architecture_of_this_process(machine):
    assert translator(machine(PI5, files={"/proc/sys/kernel/arch": "aarch64"})) is None
    assert translator(machine(GUEST, files={"/proc/sys/kernel/arch": "x86_64"})) is None


@pytest.mark.parametrize("model", ["QEMU TCG CPU version 2.5+", "QEMU Virtual CPU version 2.5+"])
def test_a_machine_of_qemu_without_kvm_is_translated(machine, model):
    system = machine(XEON.format(model, "hypervisor"), files={CLOCKS: TCG_CLOCKS})
    assert (translator(system), is_virtual(system)) == (TCG, True)


def test_a_named_processor_of_qemu_without_kvm_is_known_by_the_tool(machine):
    skylake = XEON.format("Intel Core Processor (Skylake)", "hypervisor")
    assert translator(machine(skylake, "qemu", {CLOCKS: TCG_CLOCKS})) == TCG


@pytest.mark.parametrize(
    ("detected", "clocks"),
    [("kvm", "tsc"), ("vmware", "tsc"), ("microsoft", "hyperv_clocksource_tsc_page"), (None, "tsc kvm-clock")],
)
def test_a_virtual_machine_stays_physical(machine, detected, clocks):
    system = machine(GUEST, detected, {CLOCKS: clocks})
    assert (translator(system), is_virtual(system)) == (None, True)


def test_the_tool_is_not_asked_where_files_decide(tmp_path):
    tree = DeviceTree(str(tmp_path))
    tree.write("/proc/cpuinfo", GUEST)
    tree.write(CLOCKS, "tsc kvm-clock")

    def run(argv):
        raise AssertionError(argv)

    assert translator(System(str(tmp_path), run=run)) is None


def test_an_arm_machine_of_qemu_with_its_own_processor_is_translated(machine):
    for place, name in ((PRODUCT, "QEMU Virtual Machine"), ("/proc/device-tree/model", "linux,dummy-virt\0")):
        system = machine(QEMU_MAX, files={place: name, "/proc/sys/kernel/arch": "aarch64"})
        assert (translator(system, "aarch64"), is_virtual(system)) == (TCG, True)
        os.remove(system.at(place))


def test_an_arm_machine_without_firmware_is_virtual(machine):
    assert is_virtual(machine(PI5, files={"/proc/device-tree/model": "linux,dummy-virt\0"}))
    assert not is_virtual(machine(PI5, files={"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}))


def test_rosetta_is_known_by_its_processor(machine):
    assert translator(machine(XEON.format("VirtualApple @ 2.50GHz processor", ""))) == ROSETTA


def test_a_board_and_an_empty_system_are_not_translated(machine):
    assert translator(machine(PI5), "aarch64") is None
    assert translator(machine(""), "aarch64") is None
