"""What the kernel counts about this process: its resident memory, and how long it ran and waited for a processor."""

import contextlib
import os
from typing import List, NamedTuple, Optional


class MemoryReading(NamedTuple):
    """A value in MB (10^6 bytes), or None and the reason."""

    value_mb: Optional[float]
    reason: Optional[str]


NO_CUDA = MemoryReading(None, "it is read of runtimes that compute on a GPU of NVIDIA, whose driver counts by process")
"""The memory of a GPU where the runtime computes on another processor."""


def peak_rss_mb(process: str = "/proc/self") -> MemoryReading:
    """Return the peak of the resident memory (VmHWM) since the start or the last `reset_peak`."""
    return _status_field(process, "VmHWM")


def current_rss_mb(process: str = "/proc/self") -> MemoryReading:
    """Return the resident memory now."""
    return _status_field(process, "VmRSS")


_CLEAR_REFS = "clear_refs"
_kept: List[int] = []


def keep_reset() -> None:
    """Open the file for one `reset_peak`, before this process gives up the right to: the model, which is loaded after
    it, cannot hide its memory."""
    with contextlib.suppress(OSError):
        _kept.append(os.open(os.path.join("/proc/self", _CLEAR_REFS), os.O_WRONLY))


def reset_peak(process: str = "/proc/self") -> Optional[str]:
    """Reset the high-water mark to the current resident memory; return the reason when that fails."""
    path = os.path.join(process, _CLEAR_REFS)
    try:
        with open(_kept.pop() if _kept else path, "wb", buffering=0) as stream:
            stream.write(b"5")
    except OSError as error:
        return f"{path} cannot be written: {error.strerror}"
    return None


def _status_field(process: str, field: str) -> MemoryReading:
    path = os.path.join(process, "status")
    try:
        with open(path) as stream:
            lines = stream.read().splitlines()
    except OSError as error:
        return MemoryReading(None, f"{path} cannot be read: {error.strerror}")
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == field and len(words) == 2 and words[0].isdigit() and words[1] == "kB":
            return MemoryReading(int(words[0]) * 1024 / 1e6, None)
    return MemoryReading(None, f"{path} has no {field}")


class SchedulerTimes(NamedTuple):
    """Seconds over all threads since their start, or None and the reason."""

    cpu_s: Optional[float]
    wait_s: Optional[float]
    reason: Optional[str]

    def since(self, earlier: "SchedulerTimes") -> "SchedulerTimes":
        """Return the difference of two readings."""
        if None in (self.cpu_s, self.wait_s, earlier.cpu_s, earlier.wait_s):
            return SchedulerTimes(None, None, self.reason or earlier.reason)
        # A thread that ended between the readings takes its times along, so the difference is cut off at zero.
        return SchedulerTimes(
            max(0.0, (self.cpu_s or 0.0) - (earlier.cpu_s or 0.0)),
            max(0.0, (self.wait_s or 0.0) - (earlier.wait_s or 0.0)),
            None,
        )


def voluntary_switches() -> Optional[int]:
    """Return the number of voluntary context switches of all threads of this process, None where unknown."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def scheduler_times(process: str = "/proc/self") -> SchedulerTimes:
    """Return the sums of `schedstat` over all threads (the file of the process covers only its main thread)."""
    tasks = os.path.join(process, "task")
    cpu_ns = wait_ns = 0
    try:
        for task in os.listdir(tasks):
            try:
                with open(os.path.join(tasks, task, "schedstat")) as stream:
                    words = stream.read().split()
            except FileNotFoundError:
                if not os.path.exists(os.path.join(tasks, task)):
                    continue  # the thread ended after the listing
                raise
            cpu_ns += int(words[0])
            wait_ns += int(words[1])
    except (OSError, ValueError, IndexError) as error:
        return SchedulerTimes(None, None, f"no scheduler statistics: {error}")
    return SchedulerTimes(cpu_ns / 1e9, wait_ns / 1e9, None)
