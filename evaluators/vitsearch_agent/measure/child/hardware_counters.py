"""Instructions and cycles of this process, from the processor's own counters (Linux perf_event).

Source: man 2 perf_event_open, and linux/perf_event.h for the structure. Many virtual machines and containers do not
offer the counters; the reason is then reported instead.
"""

import ctypes
import os
import platform
import struct
from typing import Callable, Optional, Tuple

from vitsearch_agent.wire.processor_counters import Counters

_SYSCALLS = {"x86_64": 298, "aarch64": 241, "armv7l": 364, "riscv64": 241}
_TYPE_HARDWARE = 0
_CYCLES, _INSTRUCTIONS = 0, 1
_ATTRIBUTE = struct.Struct("=IIQQQQQIIQ")
"""perf_event_attr up to PERF_ATTR_SIZE_VER0 (64 bytes), which every kernel accepts: type, size, config, sample period,
sample type, read format, flags, wake-up, breakpoint type, breakpoint address."""
_DISABLED, _INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 0, 1 << 1, 1 << 5, 1 << 6
_ENABLE, _DISABLE = 0x2400, 0x2401
_COUNT = struct.Struct("=Q")

Open = Callable[[int], int]
"""Opens the counter of an event and returns its file descriptor; raises OSError."""


class HardwareCounters:
    """Counters that count between `start` and `stop`. Without any, both do nothing and `reason` says why.

    Create it before the runtime starts its threads: only threads that start later are counted with this one.
    """

    def __init__(self, open_counter: Optional[Open] = None) -> None:
        self.reason: Optional[str] = None
        self._descriptors: Tuple[int, ...] = ()
        opened = []
        try:
            for event in (_INSTRUCTIONS, _CYCLES):
                opened.append((open_counter or _open)(event))
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            self.reason = f"the processor's counters cannot be read: {error.strerror or error}"
        else:
            self._descriptors = tuple(opened)

    def start(self) -> None:
        self._control(_ENABLE)

    def stop(self) -> None:
        self._control(_DISABLE)

    def per_run(self, runs: int) -> Optional[Counters]:
        """Return what `runs` runs counted, divided by their number; None without counters."""
        if not self._descriptors or runs == 0:
            return None
        instructions, cycles = (_COUNT.unpack(os.read(descriptor, _COUNT.size))[0] for descriptor in self._descriptors)
        return Counters(instructions / runs / 1e6, cycles / runs / 1e6)

    def _control(self, request: int) -> None:
        if self._descriptors:
            import fcntl  # missing on Windows, where there are no descriptors

            for descriptor in self._descriptors:
                fcntl.ioctl(descriptor, request, 0)


def _open(event: int) -> int:
    number = _SYSCALLS.get(platform.machine()) if hasattr(os, "sched_getaffinity") else None
    if number is None:
        raise OSError(f"perf_event_open is not known on {platform.system()} {platform.machine()}")
    flags = _DISABLED | _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
    attribute = _ATTRIBUTE.pack(_TYPE_HARDWARE, _ATTRIBUTE.size, event, 0, 0, 0, flags, 0, 0, 0)
    this_process, any_cpu, no_group, no_flags = 0, -1, -1, 0
    kernel = ctypes.CDLL(None, use_errno=True)
    descriptor = int(kernel.syscall(number, attribute, this_process, any_cpu, no_group, no_flags))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor
