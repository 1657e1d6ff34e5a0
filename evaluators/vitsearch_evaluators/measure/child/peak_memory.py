"""Peak resident memory of this process, from the kernel's high-water mark (VmHWM)."""

import os
from typing import NamedTuple, Optional


class Reading(NamedTuple):
    """A value in MB (10^6 bytes), or None and the reason."""

    value_mb: Optional[float]
    reason: Optional[str]


def peak_rss_mb(process: str = "/proc/self") -> Reading:
    """Return the peak of the resident memory since the start or the last `reset_peak`."""
    return _status_field(process, "VmHWM")


def current_rss_mb(process: str = "/proc/self") -> Reading:
    """Return the resident memory now."""
    return _status_field(process, "VmRSS")


def reset_peak(process: str = "/proc/self") -> Optional[str]:
    """Reset the high-water mark to the current resident memory; return the reason when that fails."""
    path = os.path.join(process, "clear_refs")
    try:
        with open(path, "w") as stream:
            stream.write("5")
    except OSError as error:
        return f"{path} cannot be written: {error.strerror}"
    return None


def _status_field(process: str, field: str) -> Reading:
    path = os.path.join(process, "status")
    try:
        with open(path) as stream:
            lines = stream.read().splitlines()
    except OSError as error:
        return Reading(None, f"{path} cannot be read: {error.strerror}")
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == field and len(words) == 2 and words[0].isdigit() and words[1] == "kB":
            return Reading(int(words[0]) * 1024 / 1e6, None)
    return Reading(None, f"{path} has no {field}")
