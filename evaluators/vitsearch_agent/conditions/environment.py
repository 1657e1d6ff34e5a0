"""A fingerprint of everything that may change a measurement.

The fingerprint leaves out values that change while the device runs (temperature, load, uptime): the
same setup has the same environment id after a reboot.
"""

import os
import platform
from typing import Any, Dict, List, Optional, Sequence

from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.system import System, whole
from vitsearch_agent.conditions.power_mode import settings
from vitsearch_agent.wire.device_info import RuntimeInfo

_RAM_STEP_MB = 64
_VIRTUAL_PRODUCTS = ("virtual", "kvm", "qemu", "vmware", "bochs", "amazon ec2", "google compute engine")
"""Parts of the DMI product names of virtual machines, for processors whose flags do not show it (Arm)."""


def fingerprint(agent_version: str, runtimes: Sequence[RuntimeInfo], system: System) -> Dict[str, Any]:
    """Describe the environment; a value that this machine does not provide is None."""
    return {
        "agent": agent_version,
        "board": board_model(system),
        "cpu": cpu_model(system),
        "cores": sum(1 for line in _cpu_lines(system) if line.startswith("processor")) or None,
        "machine": platform.machine(),
        "virtual": is_virtual(system),
        "ram_mb": memory_mb(system),
        "kernel": system.read("/proc/sys/kernel/osrelease").text or None,
        "l4t": _first_line(system.read("/etc/nv_tegra_release").text),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "runtimes": {
            runtime.name: {"version": runtime.version, "providers": list(runtime.providers)}
            for runtime in runtimes
            if runtime.available
        },
        "settings": settings(system),
    }


def environment_id(environment: Dict[str, Any]) -> str:
    """Return the digest of a fingerprint; measurements with equal ids may be compared."""
    return digest(environment)


def is_virtual(system: System) -> bool:
    """Return whether this is a virtual machine, whose processors others may use at the same time."""
    if any(" hypervisor" in line for line in _cpu_lines(system) if line.startswith("flags")):
        return True
    hypervisor = system.read("/sys/hypervisor/type").text or system.read("/proc/device-tree/hypervisor/compatible").text
    product = system.read("/sys/class/dmi/id/product_name").text or ""
    return bool(hypervisor) or any(name in product.lower() for name in _VIRTUAL_PRODUCTS)


def _cpu_lines(system: System) -> List[str]:
    return (system.read("/proc/cpuinfo").text or "").splitlines()


def memory_mb(system: System) -> Optional[int]:
    """Return the memory that the kernel manages, rounded to 64 MB: the kernel's own share varies from boot to boot."""
    total = _meminfo_mb(system, "MemTotal")
    return None if total is None else int(round(total / _RAM_STEP_MB)) * _RAM_STEP_MB


def available_mb(system: System) -> Optional[float]:
    """Return the memory that programs can take without swapping; None where the kernel does not say (before 3.14)."""
    return _meminfo_mb(system, "MemAvailable")


def _meminfo_mb(system: System, field: str) -> Optional[float]:
    for line in (system.read("/proc/meminfo").text or "").splitlines():
        words = line.split()
        size_kib = whole(words[1]) if len(words) >= 2 and words[0] == field + ":" else None
        if size_kib is not None:
            return size_kib * 1024 / 1e6
    return None


def board_model(system: System) -> Optional[str]:
    """Return the name that the manufacturer gave the board or the machine."""
    model = system.read("/proc/device-tree/model").text or system.read("/sys/class/dmi/id/product_name").text
    return model.rstrip("\0").strip() if model else None


def cpu_model(system: System) -> Optional[str]:
    """Return the processor's name; Arm kernels report only numbers."""
    return _cpu_fields(system).get("model name") or cpu_part(system)


def cpu_part(system: System) -> Optional[str]:
    """Return the processor by the numbers of its maker where it has some: Arm kernels add a name, or not."""
    fields = _cpu_fields(system)
    if "CPU part" in fields:
        return f"arm {fields.get('CPU implementer', '?')}/{fields['CPU part']}"
    return fields.get("model name")


def _cpu_fields(system: System) -> Dict[str, str]:
    """Return what is said of the first processor."""
    fields: Dict[str, str] = {}
    for line in _cpu_lines(system):
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _first_line(text: Optional[str]) -> Optional[str]:
    return text.splitlines()[0] if text else None
