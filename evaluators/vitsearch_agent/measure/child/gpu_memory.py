"""The memory of NVIDIA's GPUs that this process and its children hold, as the driver counts it.

    NVML            graphics cards and Thor: the list of the processes that compute on a card
    nvmap clients   Jetsons before Thor, whose GPU uses the board's memory and whose NVML has no such figure:
                    /sys/kernel/debug/nvmap/iovmm/clients, which only root may read

Both count all that a process has allocated, with the context of CUDA, some hundred MB. In a container the driver counts
by numbers of the host's processes, so that this process is not found.

Sources: NVML reference, nvmlProcessInfo_t; jetson_stats pull requests 849 and 852 (Thor), htop's reader of a Jetson.
"""

import os
import re
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from vitsearch_agent.base.system import System
from vitsearch_agent.measure.child.process_usage import MemoryReading
from vitsearch_agent.power import nvml

NVMAP = "/sys/kernel/debug/nvmap/iovmm/clients"
_COMPATIBLE = "/proc/device-tree/compatible"
_CLIENT = re.compile(r"\s([0-9]+)\s+([0-9]+)([KMG])\s*\Z")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_POLL_S = 0.5


class GpuMemory:
    """Reads the memory of this process and its children. A driver that cannot be loaded is not tried again."""

    def __init__(self, system: System, load: Callable[[], Any] = nvml.load_library) -> None:
        self._system = system
        self._load = load
        self._missing: Optional[str] = None

    def read(self) -> MemoryReading:
        """Return the memory now, of all cards together, in MB (10^6 bytes)."""
        by_driver = self._of_nvml()
        if by_driver.value_mb is not None or not self._is_tegra():
            return by_driver
        by_nvmap = self._of_nvmap()
        if by_nvmap.value_mb is not None:
            return by_nvmap
        return MemoryReading(None, f"{by_driver.reason}; {by_nvmap.reason}")

    def _of_nvml(self) -> MemoryReading:
        if self._missing is None:
            try:
                return self._added_up(self._cards())
            except OSError:
                self._missing = "NVML (the NVIDIA driver) is not installed"
            except nvml.NvmlError as error:
                return MemoryReading(None, f"NVML: {error}")
        return MemoryReading(None, self._missing)

    def _cards(self) -> List[Dict[int, Optional[int]]]:
        with nvml.opened(self._load()) as driver:
            return [driver.process_bytes(driver.card(index)) for index in range(driver.count())]

    def _added_up(self, cards: List[Dict[int, Optional[int]]]) -> MemoryReading:
        held = [used for card in cards for pid, used in card.items() if self._is_ours(pid)]
        if None in held:
            return MemoryReading(None, "NVML does not count the memory of processes here")
        if not held:
            return MemoryReading(None, "NVML lists no memory of this process")
        return MemoryReading(sum(used or 0 for used in held) / 1e6, None)

    def _is_tegra(self) -> bool:
        return "nvidia,tegra" in (self._system.read(_COMPATIBLE).text or "")

    def _of_nvmap(self) -> MemoryReading:
        content = self._system.read(NVMAP)
        if content.text is None:
            return MemoryReading(None, content.reason)
        held = [used for pid, used in parse_clients(content.text) if self._is_ours(pid)]
        if not sum(held):
            return MemoryReading(None, f"{NVMAP} has no memory of this process")
        return MemoryReading(sum(held) / 1e6, None)

    def _is_ours(self, pid: int) -> bool:
        """Whether a process is this one or a child of it."""
        if pid == os.getpid():
            return True
        stat = self._system.read(f"/proc/{pid}/stat").text or ""
        words = stat.rpartition(")")[2].split()
        return len(words) > 1 and words[1] == str(os.getpid())


def parse_clients(text: str) -> Iterator[Tuple[int, int]]:
    """Yield the process and its bytes of each line of nvmap's clients; other lines have none, such as the total."""
    for line in text.splitlines():
        match = _CLIENT.search(line)
        if match is not None:
            yield int(match.group(1)), int(match.group(2)) * _UNITS[match.group(3)]


class Watch:
    """The largest memory while this process waits for a program; a thread reads it twice a second."""

    def __init__(self, memory: GpuMemory) -> None:
        self.peak = MemoryReading(None, "the program ended before its memory was read")
        self._memory = memory
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gpu memory", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            now = self._memory.read()
            if self.peak.value_mb is None or (now.value_mb is not None and now.value_mb > self.peak.value_mb):
                self.peak = now
