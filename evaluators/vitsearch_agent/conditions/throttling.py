"""Detect throttling by comparing the device's counters before and after a run.

Only a change counts: a healthy Orin shows thousands of over-current events since boot, and some bits stay
set until the next boot. A device without counters is unknown, never "not throttled".
"""

import itertools
import re
from typing import Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from vitsearch_agent.base.system import System, whole

_OVER_CURRENT = {"1": "under-voltage", "2": "average over-current", "3": "instantaneous over-current"}
_PI_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_PI_STICKY_SHIFT = 16
_SLOW = 0.9
_LIMITED = 0.6
"""Of the highest frequency, which is the turbo of a single processor. That of all together is lower, on large servers
by a third, so a healthy PC stays above; a power limit that halves the clock does not."""
_GPU_REASONS = ("pl1", "pl2", "thermal", "prochot")
_COOLING = re.compile(r"cpufreq|devfreq|balanced|throttle|^Processor$")


class ThrottlingState(NamedTuple):
    """The throttling counters at one moment.

    `counts` only grow. `active` are the limits in force now, `since_boot` those that were in force at some
    time since boot. `unreadable` describes the counters that exist but cannot be read. `shows_power` is set where
    a limit of power or current is among what is read, not heat alone.
    """

    counts: Mapping[str, int] = {}
    active: Tuple[str, ...] = ()
    since_boot: Optional[FrozenSet[str]] = None
    unreadable: Tuple[str, ...] = ()
    shows_power: bool = False


class ThrottlingVerdict(NamedTuple):
    """`throttled` is None when it is unknown; `what` is then the reason, otherwise the counters that moved."""

    throttled: Optional[bool]
    what: Optional[str]


def read_state(system: System) -> ThrottlingState:
    """Read every counter that this device has."""
    counts: Dict[str, int] = {}
    active: List[str] = []
    since_boot: Optional[FrozenSet[str]] = None
    unreadable: List[str] = []
    shows_power = False
    for source in _SOURCES:
        seen = source(system)
        counts.update(seen.counts)
        active.extend(seen.active)
        unreadable.extend(seen.unreadable)
        since_boot = seen.since_boot if since_boot is None else since_boot
        shows_power = shows_power or seen.shows_power
    return ThrottlingState(counts, tuple(active), since_boot, tuple(unreadable), shows_power)


def active_limits(system: System) -> Tuple[str, ...]:
    """Return the limits in force now; cheap enough to be read during a run."""
    return _raspberry_pi(system).active + cooling_devices(system).active + _intel_gpus(system).active


def cooling_devices(system: System) -> ThrottlingState:
    """Read the kernel's cooling devices.

    Their state can prove throttling but not exclude it: a limit may come and go between two readings.

    With CONFIG_THERMAL_STATISTICS the kernel also counts their transitions.
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
    return ThrottlingState(counts, tuple(sorted(set(active))))


def frequency_ratio(system: System) -> Optional[float]:
    """Return the largest ratio of current to highest frequency over all processors, None where unknown.

    It is only a hint: a frequency governor lowers it too.
    """
    ratios = []
    for policy in system.glob("/sys/devices/system/cpu/cpufreq/policy[0-9]*"):
        current = system.number(f"{policy}/scaling_cur_freq")
        highest = system.number(f"{policy}/scaling_max_freq")
        if current is not None and highest is not None and highest > 0:
            ratios.append(current / highest)
    return max(ratios) if ratios else None


def compare(before: ThrottlingState, after: ThrottlingState, between: Sequence[str] = ()) -> ThrottlingVerdict:
    """Compare the states before and after a run; `between` are limits that were in force during it."""
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
        return ThrottlingVerdict(True, ", ".join(moved))
    unknown = list(before.unreadable or after.unreadable)
    lost = [name for name, count in sorted(before.counts.items()) if after.counts.get(name, -1) < count]
    unknown += [f"{name} decreased or disappeared" for name in lost]
    if before.since_boot:
        unknown.append(f"already set since boot, so a new event does not show: {', '.join(sorted(before.since_boot))}")
    if not unknown and not before.counts and before.since_boot is None:
        unknown.append("the system has no throttling counter")
    return ThrottlingVerdict(None, "; ".join(unknown)) if unknown else ThrottlingVerdict(False, None)


def with_frequencies(verdict: ThrottlingVerdict, state: ThrottlingState, ratios: Sequence[float]) -> ThrottlingVerdict:
    """Return the verdict with what the frequencies say: a clock far below the highest one is not called unthrottled.

    They prove nothing: a governor lowers them too, and while a GPU works. Where a counter shows power limits, such a
    clock has another cause; a single sample may be that of a rest.

    Args:
        verdict: Of the counters.
        state: The counters.
        ratios: The largest `frequency_ratio` of each sample during the run.
    """
    if verdict.throttled or not ratios:
        return verdict
    hint = f"no processor ran above {max(ratios):.0%} of its highest frequency"
    if verdict.throttled is None:
        return verdict if max(ratios) >= _SLOW else ThrottlingVerdict(None, f"{verdict.what}; {hint}")
    if state.shows_power or len(ratios) < 2 or max(ratios) >= _LIMITED:
        return verdict
    return ThrottlingVerdict(None, f"no throttling counter moved, but {hint}")


def _jetson_over_current(system: System) -> ThrottlingState:
    counts: Dict[str, int] = {}
    unreadable: List[str] = []
    for path in system.glob("/sys/class/hwmon/hwmon*/oc*_event_cnt"):
        folder, _, name = path.rpartition("/")
        if system.read(f"{folder}/name").text != "soctherm_oc":
            continue
        value, number = system.counter(path), name[len("oc") : -len("_event_cnt")]
        if value is None:  # the other counters of the chip do not replace this one
            unreadable.append(system.read(path).reason or f"{path} holds no count")
        else:
            counts[f"oc{number} ({_OVER_CURRENT.get(number, 'over-current')})"] = value
    return ThrottlingState(counts, unreadable=tuple(unreadable), shows_power=bool(counts))


def _jetson_interrupts(system: System) -> ThrottlingState:
    """Read the over-current events of the Nano and the TX2: interrupts, one column for each processor."""
    total = None
    for line in (system.read("/proc/interrupts").text or "").splitlines():
        words = line.split()
        if words and words[-1] == "soctherm_edp":
            # The counts end at the name of the interrupt controller; the number after it is not a count.
            counts = itertools.takewhile(lambda count: count is not None, map(whole, words[1:]))
            total = (total or 0) + sum(filter(None, counts))
    if total is None:
        return ThrottlingState()
    return ThrottlingState({"soctherm_edp (over-current)": total}, shows_power=True)


def _x86(system: System) -> ThrottlingState:
    counts = {}
    for kind in ("core", "package"):
        paths = system.glob(f"/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{kind}_throttle_count")
        values = [value for value in map(system.counter, paths) if value is not None]
        if values:
            # The name holds the number of counters: a core that is switched on later brings its old count along.
            counts[f"{kind}_throttle_count of {len(values)} processors"] = sum(values)
    return ThrottlingState(counts)


def _raspberry_pi(system: System) -> ThrottlingState:
    if "Raspberry Pi" not in (system.read("/proc/device-tree/model").text or ""):
        return ThrottlingState()
    output = system.run(["vcgencmd", "get_throttled"])
    match = re.search(r"throttled=0x([0-9a-fA-F]+)", output.stdout)
    if match is None:
        return ThrottlingState(
            unreadable=(output.reason or f"vcgencmd get_throttled printed {output.stdout.strip()[:80]!r}",)
        )
    bits = int(match.group(1), 16)
    active = tuple(name for bit, name in enumerate(_PI_BITS) if bits >> bit & 1)
    return ThrottlingState(
        active=active,
        since_boot=frozenset(name for bit, name in enumerate(_PI_BITS) if bits >> (bit + _PI_STICKY_SHIFT) & 1),
        shows_power=True,
    )


def _intel_gpus(system: System) -> ThrottlingState:
    """Read what limits the clock of Intel's GPUs now: i915 and xe have a file for each reason, 1 where it holds.

    An idle GPU, whose actual frequency is 0, is not limited.
    """
    active: Set[str] = set()
    for folders, of_reason, actual in (
        ("/sys/class/drm/card[0-9]*/gt/gt[0-9]*", "throttle_reason_", "rps_act_freq_mhz"),
        ("/sys/class/drm/card[0-9]*/device/tile[0-9]*/gt[0-9]*/freq[0-9]*", "throttle/reason_", "act_freq"),
    ):
        for folder in system.glob(folders):
            reasons = [name for name in _GPU_REASONS if system.number(f"{folder}/{of_reason}{name}") == 1]
            if reasons and system.number(f"{folder}/{actual}") != 0:
                active.update(f"GPU limit {name}" for name in reasons)
    return ThrottlingState(active=tuple(sorted(active)))


_SOURCES: Tuple[Callable[[System], ThrottlingState], ...] = (
    _jetson_over_current,
    _jetson_interrupts,
    _x86,
    _raspberry_pi,
    cooling_devices,
    _intel_gpus,
)
