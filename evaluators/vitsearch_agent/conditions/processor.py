"""The processor: its name, what it computes in hardware, and whether it is real, shared or translated.

A virtual machine runs its instructions on a real processor: its times are real ones, though others may share it.
A translator computes each instruction by many others. Its times follow the translator, not the architecture that it
shows, so such a device is emulated.

    qemu-user    programs of another architecture on this kernel, in a chroot or a container
    TCG          a whole machine of QEMU without KVM
    Rosetta      x86-64 programs on a processor of Apple
"""

import platform
from typing import Any, Dict, List, Optional

from vitsearch_agent.base.system import System

QEMU_USER, TCG, ROSETTA = "qemu-user", "TCG", "Rosetta"

_ARM_FEATURES = "neon asimd fphp asimdhp asimddp asimdfhm i8mm bf16 sve sve2 svei8mm svebf16 sme sme2"
_X86_FEATURES = (
    "avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 avx512_fp16 avx_vnni avx_vnni_int8 "
    "amx_tile amx_int8 amx_bf16 amx_fp16"
)
FEATURES = frozenset(f"{_ARM_FEATURES} {_X86_FEATURES}".split())
"""The kernel's names of what decides which code a runtime picks: vectors, dot products and matrices in each type."""

_VIRTUAL_PRODUCTS = ("virtual", "kvm", "qemu", "vmware", "bochs", "amazon ec2", "google compute engine", "dummy-virt")
"""Parts of the product names of virtual machines, for processors whose flags do not show it (Arm)."""
_ARCHITECTURES = {"arm": ("aarch64", "arm"), "x86": ("x86_64", "amd64", "i386", "i486", "i586", "i686")}
"""Those between whose members a processor switches by itself: a 32-bit program on a 64-bit kernel is not translated."""


def cpu_model(system: System) -> Optional[str]:
    """Return the processor's name; Arm kernels report only numbers."""
    return _cpu_fields(system).get("model name") or cpu_part(system)


def cpu_part(system: System) -> Optional[str]:
    """Return the processor by the numbers of its maker where it has some: Arm kernels add a name, or not."""
    fields = _cpu_fields(system)
    if "CPU part" in fields:
        return f"arm {fields.get('CPU implementer', '?')}/{fields['CPU part']}"
    return fields.get("model name")


def core_count(system: System) -> Optional[int]:
    """Return the number of processors that the kernel uses, None where it does not say."""
    return sum(1 for line in _cpu_lines(system) if line.startswith("processor")) or None


def features(system: System) -> Optional[List[str]]:
    """Return which of FEATURES the first processor has, sorted; None where the kernel does not say.

    The kernel lists on each Arm core only what all of them have.
    """
    fields = _cpu_fields(system)
    words = fields.get("Features", fields.get("flags"))
    return None if words is None else sorted(FEATURES.intersection(words.split()))


def is_virtual(system: System) -> bool:
    """Return whether this is a virtual machine, whose processors others may use at the same time."""
    if _has_hypervisor_flag(system):
        return True
    hypervisor = system.read("/sys/hypervisor/type").text or system.read("/proc/device-tree/hypervisor/compatible").text
    paths = ("/sys/class/dmi/id/product_name", "/proc/device-tree/model")
    products = " ".join(system.read(path).text or "" for path in paths).lower()
    return bool(hypervisor) or any(name in products for name in _VIRTUAL_PRODUCTS)


def translator(system: System, machine: Optional[str] = None) -> Optional[str]:
    """Return what translates the instructions of this device, None where nothing is known to.

    An Arm machine of QEMU that imitates a processor by its name, without KVM, is not told from one with KVM.

    Args:
        system: The device.
        machine: The architecture for which this program was built; None: that of this process, which says nothing of
            a recorded device.
    """
    if machine is None and system.root == "/":
        machine = platform.machine()
    fields = _cpu_fields(system)
    if "VirtualApple" in fields.get("model name", "") + fields.get("vendor_id", "") or _is_under_macos_rosetta(system):
        return ROSETTA
    if machine is not None and _kernel_architecture(system) not in (None, _architecture(machine)):
        return QEMU_USER
    if (fields.get("CPU implementer"), fields.get("CPU part")) == ("0x00", "0x051"):  # QEMU's processor `max`
        return TCG if is_virtual(system) else QEMU_USER
    return TCG if _is_translated_machine(system, fields.get("model name", "")) else None


def describe_translation(system: System) -> Optional[Dict[str, Any]]:
    """Return the emulation by a translator for the fingerprint, None on a processor that runs its instructions."""
    name = translator(system)
    return None if name is None else {"method": "translated instructions", "translator": name}


def _is_translated_machine(system: System, model: str) -> bool:
    """Return whether an x86 machine of QEMU runs without KVM. The tool asks the processor itself (CPUID 0x40000000)."""
    if not _has_hypervisor_flag(system):
        return False
    if model.startswith("QEMU TCG"):
        return True
    clocks = system.read("/sys/devices/system/clocksource/clocksource0/available_clocksource").text
    if "kvm-clock" in (clocks or ""):
        return False
    answer = system.run(["systemd-detect-virt", "--vm"])
    if answer.reason is None:
        return answer.stdout.strip() == "qemu"
    return model.startswith("QEMU ") and clocks is not None


def _is_under_macos_rosetta(system: System) -> bool:
    """Return whether macOS translates this process; elsewhere the tool and this name do not exist."""
    if system.root != "/" or platform.system() != "Darwin":
        return False
    return system.run(["sysctl", "-n", "sysctl.proc_translated"]).stdout.strip() == "1"


def _kernel_architecture(system: System) -> Optional[str]:
    """Return the architecture of the kernel, which a translator of programs does not imitate.

    Kernels before 6.1 have no file for it. There, a translator that leaves /proc/cpuinfo alone (QEMU before 8.1) shows
    the other architecture's fields.
    """
    machine = system.read("/proc/sys/kernel/arch").text
    if machine:
        return _architecture(machine)
    fields = _cpu_fields(system)
    return "x86" if "cpu family" in fields else "arm" if "CPU implementer" in fields else None


def _architecture(machine: str) -> str:
    """Return the architecture that `uname` names, such as `x86` for `i686`."""
    for name, prefixes in _ARCHITECTURES.items():
        if machine.startswith(prefixes):
            return name
    return machine


def _has_hypervisor_flag(system: System) -> bool:
    return "hypervisor" in _cpu_fields(system).get("flags", "").split()


def _cpu_lines(system: System) -> List[str]:
    return (system.read("/proc/cpuinfo").text or "").splitlines()


def _cpu_fields(system: System) -> Dict[str, str]:
    """Return what is said of the first processor."""
    fields: Dict[str, str] = {}
    for line in _cpu_lines(system):
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    return fields
