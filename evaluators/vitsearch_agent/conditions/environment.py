"""A fingerprint of everything that may change a measurement.

The fingerprint leaves out values that change while the device runs (temperature, load, uptime): the
same setup has the same environment id after a reboot.
"""

import os
import platform
from typing import Any, Dict, List, Optional, Sequence

from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.system import System, whole
from vitsearch_agent.conditions import processor
from vitsearch_agent.conditions.power_mode import settings
from vitsearch_agent.wire.device_info import RuntimeInfo

_RAM_STEP_MB = 64


def fingerprint(agent_version: str, runtimes: Sequence[RuntimeInfo], system: System) -> Dict[str, Any]:
    """Describe the environment; a value that this machine does not provide is None."""
    return {
        "agent": agent_version,
        "board": board_model(system),
        "cpu": processor.cpu_model(system),
        "features": processor.features(system),
        "cores": processor.core_count(system),
        "machine": platform.machine(),
        "virtual": processor.is_virtual(system),
        "emulation": processor.describe_translation(system),
        "ram_mb": memory_mb(system),
        "kernel": system.read("/proc/sys/kernel/osrelease").text or None,
        "l4t": _first_line(system.read("/etc/nv_tegra_release").text),
        "nvidia_driver": _first_line(system.read("/proc/driver/nvidia/version").text),  # others come with the kernel
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "runtimes": describe_runtimes(runtimes),
        "settings": settings(system),
    }


def describe_runtimes(runtimes: Sequence[RuntimeInfo]) -> Dict[str, Any]:
    """Return the part of a fingerprint that says what the available runtimes are."""
    return {
        runtime.name: {"version": runtime.version, "providers": list(runtime.providers)}
        for runtime in runtimes
        if runtime.available
    }


def environment_id(environment: Dict[str, Any]) -> str:
    """Return the digest of a fingerprint; measurements with equal ids may be compared."""
    return digest(environment)


def changes(before: Any, after: Any, name: str = "") -> List[str]:
    """Return what differs between two fingerprints, such as `settings.boost: False, before True`."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [] if before == after else [f"{name}: {after!r}, before {before!r}"]
    names = sorted(set(before) | set(after))
    prefix = f"{name}." if name else ""
    return [text for key in names for text in changes(before.get(key), after.get(key), prefix + key)]


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


def _first_line(text: Optional[str]) -> Optional[str]:
    return text.splitlines()[0] if text else None
