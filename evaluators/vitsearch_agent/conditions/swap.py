"""Swap traffic during a measurement: a model that does not fit in memory is as slow as the disk."""

import os
from typing import NamedTuple, Optional

from vitsearch_agent.base.system import System, whole

SWAPPED_MB = 1.0
"""The traffic from which a measurement is flagged: other processes swap single pages at any time."""

_VMSTAT = "/proc/vmstat"


class SwapTraffic(NamedTuple):
    """Pages swapped in and out since boot, in MB (10^6 bytes), or None and the reason."""

    total_mb: Optional[float]
    reason: Optional[str]


def swap_traffic(system: System) -> SwapTraffic:
    """Read the kernel's swap counters of the whole machine."""
    vmstat = system.read(_VMSTAT)
    if vmstat.text is None:
        return SwapTraffic(None, vmstat.reason)
    words = [line.split() for line in vmstat.text.splitlines()]
    counters = {pair[0]: whole(pair[1]) for pair in words if len(pair) == 2}
    pages_in, pages_out = counters.get("pswpin"), counters.get("pswpout")
    if pages_in is None or pages_out is None:
        return SwapTraffic(None, f"{_VMSTAT} has no swap counters")
    return SwapTraffic((pages_in + pages_out) * os.sysconf("SC_PAGE_SIZE") / 1e6, None)
