"""Whether the device slowed itself down: what its counters say before and after a run, compared.

A count by itself says nothing (a healthy Orin shows thousands of over-current events since boot), nor
does a bit that stays set; only a change does. A device with no counter is unknown, never "not throttled".
"""

import itertools
import re
from typing import Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_evaluators.base.system import System, whole

_OVER_CURRENT = {"1": "under-voltage", "2": "average over-current", "3": "instantaneous over-current"}
_PI_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_PI_STICKY_SHIFT = 16
_COOLING = re.compile(r"cpufreq|devfreq|balanced|throttle|^Processor$")


class Look(NamedTuple):
    """What can be seen at one moment.

    `counts` only grow. `active` are the limits in force just now, `since_boot` those that have been
    in force and stay set. `blind` tells what should be here and cannot be read.
    """

    counts: Mapping[str, int] = {}
    active: Tuple[str, ...] = ()
    since_boot: Optional[FrozenSet[str]] = None
    blind: Tuple[str, ...] = ()


class Verdict(NamedTuple):
    """`throttled` is None when nobody can tell; `what` then says why, and else what moved."""

    throttled: Optional[bool]
    what: Optional[str]


def look(system: System) -> Look:
    """Read every counter that this device has."""
    counts: Dict[str, int] = {}
    active: List[str] = []
    since_boot: Optional[FrozenSet[str]] = None
    blind: List[str] = []
    for source in _SOURCES:
        seen = source(system)
        counts.update(seen.counts)
        active.extend(seen.active)
        blind.extend(seen.blind)
        since_boot = seen.since_boot if since_boot is None else since_boot
    return Look(counts, tuple(active), since_boot, tuple(blind))


def active_limits(system: System) -> Tuple[str, ...]:
    """Return the limits in force now: what may be asked during a run."""
    return _raspberry_pi(system).active + kernel_brakes(system).active


def kernel_brakes(system: System) -> Look:
    """Look at the kernel's own brakes. Their state proves throttling, never its absence: between two looks it may
    have come and gone.

    With CONFIG_THERMAL_STATISTICS they count their transitions too.
    """
    counts: Dict[str, int] = {}
    active: List[str] = []
    for path in system.glob("/sys/class/thermal/cooling_device*/cur_state"):
        folder = path.rpartition("/")[0]
        name = system.read(f"{folder}/type").text or ""
        if _COOLING.search(name) is None:
            continue
        state = system.number(path)
        if state is not None and state > 0:
            active.append(name)
        transitions = system.counter(f"{folder}/stats/total_trans")
        if transitions is not None:
            key = f"transitions of {name}"
            counts[key] = counts.get(key, 0) + transitions
    return Look(counts, tuple(sorted(set(active))))


def pace(system: System) -> Optional[float]:
    """Return the frequency of the fastest processor over its highest, now: a hint, for a governor slows down too."""
    paces = []
    for policy in system.glob("/sys/devices/system/cpu/cpufreq/policy[0-9]*"):
        current = system.number(f"{policy}/scaling_cur_freq")
        highest = system.number(f"{policy}/scaling_max_freq")
        if current is not None and highest is not None and highest > 0:
            paces.append(current / highest)
    return max(paces) if paces else None


def compare(before: Look, after: Look, between: Sequence[str] = ()) -> Verdict:
    """Judge a run by the looks at both its ends; `between` are limits that were seen in force meanwhile."""
    moved = [
        f"{name} by {after.counts[name] - count}"
        for name, count in sorted(before.counts.items())
        if after.counts.get(name, count) > count
    ]
    new = (after.since_boot or frozenset()) - (before.since_boot or frozenset())
    moved += [f"{name} for the first time since boot" for name in sorted(new)]
    in_force = set(after.active) | set(between) | set(before.active)
    moved += [f"{name} in force" for name in sorted(in_force)]
    if moved:
        return Verdict(True, ", ".join(moved))
    unknown = list(before.blind or after.blind)
    lost = [name for name, count in sorted(before.counts.items()) if after.counts.get(name, -1) < count]
    unknown += [f"{name} went back or away" for name in lost]
    if before.since_boot:
        unknown.append(f"has been set since boot and cannot show it again: {', '.join(sorted(before.since_boot))}")
    if not unknown and not before.counts and before.since_boot is None:
        unknown.append("the system shows no throttling counter")
    return Verdict(None, "; ".join(unknown)) if unknown else Verdict(False, None)


def _jetson_over_current(system: System) -> Look:
    counts: Dict[str, int] = {}
    blind: List[str] = []
    for path in system.glob("/sys/class/hwmon/hwmon*/oc*_event_cnt"):
        folder, _, name = path.rpartition("/")
        if system.read(f"{folder}/name").text != "soctherm_oc":
            continue
        value, number = system.counter(path), name[len("oc") : -len("_event_cnt")]
        if value is None:  # its sisters do not tell what this one would have
            blind.append(system.read(path).reason or f"{path} holds no count")
        else:
            counts[f"oc{number} ({_OVER_CURRENT.get(number, 'over-current')})"] = value
    return Look(counts, blind=tuple(blind))


def _jetson_interrupts(system: System) -> Look:
    """The Nano and the TX2 count over-current events as interrupts, one column for each processor."""
    total = None
    for line in (system.read("/proc/interrupts").text or "").splitlines():
        words = line.split()
        if words and words[-1] == "soctherm_edp":
            # The number of the interrupt at its controller stands behind the controller's name.
            counts = itertools.takewhile(lambda count: count is not None, map(whole, words[1:]))
            total = (total or 0) + sum(filter(None, counts))
    return Look({} if total is None else {"soctherm_edp (over-current)": total})


def _x86(system: System) -> Look:
    counts = {}
    for kind in ("core", "package"):
        paths = system.glob(f"/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{kind}_throttle_count")
        values = [value for value in map(system.counter, paths) if value is not None]
        if values:
            # With their number: a core that is switched on meanwhile brings along what it once counted.
            counts[f"{kind}_throttle_count of {len(values)} processors"] = sum(values)
    return Look(counts)


def _raspberry_pi(system: System) -> Look:
    if "Raspberry Pi" not in (system.read("/proc/device-tree/model").text or ""):
        return Look()
    told = system.run(["vcgencmd", "get_throttled"])
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", told.stdout)
    if found is None:
        return Look(blind=(told.reason or f"vcgencmd get_throttled said {told.stdout.strip()[:80]!r}",))
    bits = int(found.group(1), 16)
    active = tuple(name for bit, name in enumerate(_PI_BITS) if bits >> bit & 1)
    return Look(
        active=active,
        since_boot=frozenset(name for bit, name in enumerate(_PI_BITS) if bits >> (bit + _PI_STICKY_SHIFT) & 1),
    )


_SOURCES: Tuple[Callable[[System], Look], ...] = (
    _jetson_over_current,
    _jetson_interrupts,
    _x86,
    _raspberry_pi,
    kernel_brakes,
)
