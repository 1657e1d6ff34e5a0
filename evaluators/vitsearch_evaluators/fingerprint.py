"""What the device is: a stable id, and a fingerprint of everything that may change a number.

Values that change while the device runs (temperature, load, uptime) are conditions of a
measurement and stay out, so that the same set-up has the same environment id after a reboot.
"""

import glob
import json
import os
import platform
import secrets
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from vitsearch_evaluators.canonical import digest
from vitsearch_evaluators.records import RuntimeInfo

_RAM_STEP_MB = 64


class DeviceIdentity(NamedTuple):
    """`device_id` is random, made at the first start; `kind` is `physical` (or `emulated`)."""

    device_id: str
    kind: str


def device_identity(state: str) -> DeviceIdentity:
    """Return the identity stored in a state folder, and make it at the first start."""
    path = os.path.join(state, "device.json")
    try:
        with open(path) as stream:
            stored = json.load(stream)
        return DeviceIdentity(str(stored["device_id"]), str(stored["kind"]))
    except FileNotFoundError:
        pass
    identity = DeviceIdentity(secrets.token_hex(16), "physical")
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as stream:
        json.dump(dict(identity._asdict()), stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)
    return identity


def fingerprint(agent_version: str, runtimes: Sequence[RuntimeInfo] = (), root: str = "/") -> Dict[str, Any]:
    """Describe the environment; what this machine does not tell is None."""
    cpuinfo = _read(root, "proc/cpuinfo") or ""
    return {
        "agent": agent_version,
        "board": _board(root),
        "cpu": _cpu_model(cpuinfo),
        "cores": sum(1 for line in cpuinfo.splitlines() if line.startswith("processor")) or None,
        "machine": platform.machine(),
        "ram_mb": _memory_mb(root, "MemTotal"),
        "swap_mb": _memory_mb(root, "SwapTotal"),
        "kernel": _read(root, "proc/sys/kernel/osrelease"),
        "l4t": _first_line(_read(root, "etc/nv_tegra_release")),
        "governors": _distinct(root, "scaling_governor"),
        "frequencies_min_khz": _distinct(root, "scaling_min_freq"),
        "frequencies_max_khz": _distinct(root, "scaling_max_freq"),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "runtimes": {
            runtime.name: {"version": runtime.version, "providers": list(runtime.providers)}
            for runtime in runtimes
            if runtime.available
        },
    }


def environment_id(environment: Dict[str, Any]) -> str:
    """Return the digest of a fingerprint: measurements with equal ids may be compared."""
    return digest(environment)


def _board(root: str) -> Optional[str]:
    model = _read(root, "proc/device-tree/model") or _read(root, "sys/class/dmi/id/product_name")
    return model.rstrip("\0").strip() if model else None


def _cpu_model(cpuinfo: str) -> Optional[str]:
    fields: Dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:  # Arm kernels give numbers only
        return f"arm {fields.get('CPU implementer', '?')}/{fields['CPU part']}"
    return None


def _memory_mb(root: str, field: str) -> Optional[int]:
    for line in (_read(root, "proc/meminfo") or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == field + ":" and words[1].isdigit():
            # The kernel's own share differs a little from boot to boot.
            return int(round(int(words[1]) * 1024 / 1e6 / _RAM_STEP_MB)) * _RAM_STEP_MB
    return None


def _distinct(root: str, name: str) -> List[str]:
    pattern = os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq", name)
    values = {_read("/", path) for path in glob.glob(pattern)}
    return sorted(value for value in values if value)


def _first_line(text: Optional[str]) -> Optional[str]:
    return text.splitlines()[0] if text else None


def _read(root: str, path: str) -> Optional[str]:
    try:
        with open(os.path.join(root, path), errors="replace") as stream:
            return stream.read().strip() or None
    except OSError:
        return None
