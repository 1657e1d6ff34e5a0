"""The settings of the device that affect every measurement. They are recorded and never changed.

None of them changes on its own, so the same setup reads the same after a reboot.
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from vitsearch_agent.base.system import System, whole

_STEP_MB = 64
_NVPMODEL_FILE = "/etc/nvpmodel.conf"
_NVPMODEL_STATUS = "/var/lib/nvpmodel/status"
_CPU = "/sys/devices/system/cpu"


def settings(system: System) -> Dict[str, Any]:
    """Return the settings; one that this device does not have is None or empty."""
    clusters = _clusters(system)
    devfreq = _devfreq(system)
    power = _power_mode(system)
    return {
        "online": system.read(f"{_CPU}/online").text,
        "clusters": clusters,
        "boost": _boost(system),
        "devfreq": devfreq,
        "gpus": _gpus(system),
        "power_mode": power.mode,
        "jetson_clocks": _all_fixed(clusters, devfreq) if power.mode is not None else None,
        "fan": {"profile": power.fan or _fan_profile(system), "control": _fan_control(system)},
        "swap_mb": _swap_mb(system),
    }


class PowerMode(NamedTuple):
    """The output of `nvpmodel -q`: the mode as `NAME (ID)`, and the fan's mode."""

    mode: Optional[str]
    fan: Optional[str]


def parse_nvpmodel(text: str) -> PowerMode:
    """Parse the output of JetPack 4 to 6, plain or verbose, with warnings between the lines.

    NV Fan Mode:quiet                           (JetPack 4 on boards with a fan)
    NV Power Mode: MODE_15W                     (NVPM VERB: Current mode: NV Power Mode: ...)
    2
    """
    name = fan = number = None
    for line in text.splitlines():
        match = re.search(r"NV (Power|Fan) Mode:\s*(\S+)", line)
        if match is not None and match.group(1) == "Power":
            name = match.group(2)
        elif match is not None:
            fan = match.group(2)
        elif name is not None and number is None:
            number = whole(line.strip())
    if name is None:
        return PowerMode(None, fan)
    return PowerMode(name if number is None else f"{name} ({number})", fan)


def parse_nvpmodel_status(text: str) -> PowerMode:
    """Parse nvpmodel's status file: `pmode:0002` and, on some boards, `fmode:quiet`."""
    fields = dict(line.split(":", 1) for line in text.split() if ":" in line)
    number = whole(fields.get("pmode", ""))
    return PowerMode(None if number is None else f"({number})", fields.get("fmode"))


def _power_mode(system: System) -> PowerMode:
    """Run nvpmodel on a device that has it; where this account may not run it, read its status file."""
    if system.read(_NVPMODEL_FILE).text is None:
        return PowerMode(None, None)
    reported = parse_nvpmodel(system.run(["nvpmodel", "-q"]).stdout)
    if reported.mode is not None:
        return reported
    return parse_nvpmodel_status(system.read(_NVPMODEL_STATUS).text or "")


def _clusters(system: System) -> List[Dict[str, Any]]:
    """Return groups of processors with equal frequency settings."""
    alike: Dict[Tuple[Any, ...], List[str]] = {}
    for path in system.glob(f"{_CPU}/cpufreq/policy[0-9]*"):
        set_to = (
            system.read(f"{path}/scaling_governor").text,
            system.read(f"{path}/energy_performance_preference").text,
            _whole(system.number(f"{path}/scaling_min_freq")),
            _whole(system.number(f"{path}/scaling_max_freq")),
        )
        alike.setdefault(set_to, []).extend((system.read(f"{path}/related_cpus").text or "?").split())
    return [
        {"cpus": cpus, "governor": governor, "preference": preference, "min_khz": low, "max_khz": high}
        for (governor, preference, low, high), cpus in alike.items()
    ]


def _devfreq(system: System) -> Dict[str, Dict[str, Any]]:
    """Return the devfreq devices, such as `17000000.gpu` (Orin), `57000000.gpu` (Nano) or `dmc` (Rockchip)."""
    return {
        path.rpartition("/")[2]: {
            "governor": system.read(f"{path}/governor").text,
            "min_hz": _whole(system.number(f"{path}/min_freq")),
            "max_hz": _whole(system.number(f"{path}/max_freq")),
        }
        for path in system.glob("/sys/class/devfreq/*")
    }


def _gpus(system: System) -> List[Dict[str, Any]]:
    """Return the frequency limits of Intel's GPUs, which have no devfreq: of each card of i915, of each GT of xe, which
    has no `boost`.

    They are sorted by their values: the number of a card may change at a boot.
    """
    highest = system.glob("/sys/class/drm/card[0-9]*/gt_max_freq_mhz")
    highest += system.glob("/sys/class/drm/card[0-9]*/device/tile[0-9]*/gt[0-9]*/freq[0-9]*/max_freq")
    gpus = []
    for path in highest:
        before, _, after = path.rpartition("max")
        gpus.append({f"{name}_mhz": _whole(system.number(before + name + after)) for name in ("min", "max", "boost")})
    return sorted(gpus, key=repr)


def _boost(system: System) -> Optional[bool]:
    boost = system.number(f"{_CPU}/cpufreq/boost")
    if boost is not None:
        return boost != 0
    no_turbo = system.number(f"{_CPU}/intel_pstate/no_turbo")
    return None if no_turbo is None else no_turbo == 0


def _all_fixed(clusters: List[Dict[str, Any]], devfreq: Dict[str, Dict[str, Any]]) -> Optional[bool]:
    """Return True if every frequency range is a single value: `jetson_clocks` fixes processors and GPU that way."""
    bounds = [(cluster["min_khz"], cluster["max_khz"]) for cluster in clusters]
    bounds += [(device["min_hz"], device["max_hz"]) for name, device in devfreq.items() if _is_gpu(name)]
    complete = [(low, high) for low, high in bounds if low is not None and high is not None]
    return all(low == high for low, high in complete) if complete else None


def _is_gpu(name: str) -> bool:
    return re.search(r"\.(?:gpu|g[apv][0-9]+b)", name) is not None


def _fan_profile(system: System) -> Optional[str]:
    """Return the fan profile of JetPack 5 and later: the one in use, else the default of the configuration."""
    status = re.search(r"FAN_PROFILE:(\w+)", system.read("/var/lib/nvfancontrol/status").text or "")
    configured = re.search(r"FAN_DEFAULT_PROFILE\s+(\w+)", system.read("/etc/nvfancontrol.conf").text or "")
    match = status or configured
    return None if match is None else match.group(1)


def _fan_control(system: System) -> List[str]:
    """Return `pwm1_enable` of each fan: 0 full speed, 1 manual, 2 and more controlled by temperature."""
    return sorted(filter(None, (system.read(path).text for path in system.glob("/sys/class/hwmon/hwmon*/pwm1_enable"))))


def _swap_mb(system: System) -> Dict[str, int]:
    """Return the swap space by kind; zram is compressed memory, so it is counted apart from disks."""
    sizes: Dict[str, float] = {}
    for line in (system.read("/proc/swaps").text or "").splitlines()[1:]:
        words = line.split()
        size_kib = whole(words[2]) if len(words) >= 3 else None
        if size_kib is not None:
            kind = "zram" if re.search(r"/zram\d+$", words[0]) else words[1]
            sizes[kind] = sizes.get(kind, 0.0) + size_kib * 1024 / 1e6
    return {kind: int(round(size / _STEP_MB)) * _STEP_MB for kind, size in sorted(sizes.items())}


def _whole(value: Optional[float]) -> Optional[int]:
    return None if value is None else int(value)
