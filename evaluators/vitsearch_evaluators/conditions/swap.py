"""How much the device swapped meanwhile: a model that does not fit in memory is as slow as the disk."""

import os
from typing import NamedTuple, Optional

from vitsearch_evaluators.base.system import System, whole

SWAPPED_MB = 1.0
"""From here on a measurement is flagged: single pages of other processes come and go at any time."""

_VMSTAT = "/proc/vmstat"


class Swapped(NamedTuple):
    """Pages in and out since boot, in 10^6 bytes; `reason` when they cannot be read."""

    total_mb: Optional[float]
    reason: Optional[str]


def swapped(system: System) -> Swapped:
    """Read the kernel's counters of the whole machine."""
    told = system.read(_VMSTAT)
    if told.text is None:
        return Swapped(None, told.reason)
    words = [line.split() for line in told.text.splitlines()]
    counters = {pair[0]: whole(pair[1]) for pair in words if len(pair) == 2}
    pages_in, pages_out = counters.get("pswpin"), counters.get("pswpout")
    if pages_in is None or pages_out is None:
        return Swapped(None, f"{_VMSTAT} does not tell of swap")
    return Swapped((pages_in + pages_out) * os.sysconf("SC_PAGE_SIZE") / 1e6, None)
