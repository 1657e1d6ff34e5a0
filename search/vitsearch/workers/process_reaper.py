"""Nothing outlives a run: a small process that waits for its driver to die and then ends what is left.

Ray's helper processes notice a killed driver late, or never. The guard remembers every descendant of
the driver that it ever saw, and knows more by a mark in their environment (one alone is not enough:
a process that names itself overwrites its environment, one that is orphaned at once is never seen). It
reads its standard input, a pipe that only the driver holds; when that ends, it kills what is still
there. Linux only (``/proc``); elsewhere Ray's own clean-up has to do.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

MARK = "VITSEARCH_RUN"
GOODBYE = b"done\n"
GRACE_S = 1.0
QUIET_SCANS = 20
SCAN_S = 0.1
START_S = 15.0
POLL_S = 0.5
"""How often descendants are looked for, once the first ``START_S`` are over."""
PROC = Path("/proc")


class ProcessReaper:
    """Enter before anything else is started; leave when everything was ended in order."""

    def __enter__(self) -> ProcessReaper:
        self._process: subprocess.Popen[bytes] | None = None
        if PROC.exists():
            os.environ[MARK] = secrets.token_hex(8)
            command = [sys.executable, str(Path(__file__)), os.environ[MARK], str(os.getpid())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            assert self._process.stdout is not None
            self._process.stdout.readline()  # it has seen what was there before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate(GOODBYE)
            os.environ.pop(MARK, None)


class Family:
    """What a run consists of, the driver and this process left out. A pid counts with its start time."""

    def __init__(self, token: str, driver: int) -> None:
        """``driver`` is told, not asked for: the parent of an orphan is process 1, and all others its children.

        What the driver had started before stays out of it.
        """
        if driver <= 1:
            raise ValueError(f"process {driver} is no driver")
        self._mark = f"{MARK}={token}".encode()
        self._driver = driver
        self._driver_started = (_stat(PROC / str(driver)) or [""] * 20)[19]
        self._seen: dict[int, str] = {}
        self._before: frozenset[tuple[int, str]] = frozenset()
        self.look()
        self._before, self._seen = frozenset(self._seen.items()), {}

    def look(self) -> None:
        """Remember the descendants of the driver and of all that were seen before; forget the dead."""
        parents, started = {}, {}
        for place in PROC.glob("[0-9]*"):
            if (stat := _stat(place)) is not None:
                pid = int(place.name)
                parents[pid], started[pid] = int(stat[1]), stat[19]
        known = self._seen | {self._driver: self._driver_started}
        family = {pid for pid, start in known.items() if pid > 1 and started.get(pid) == start}
        grown = -1
        while grown != len(family):
            grown = len(family)
            family |= {pid for pid, parent in parents.items() if parent in family}
        family -= {self._driver, os.getpid()}
        self._seen = {pid: started[pid] for pid in family if (pid, started[pid]) not in self._before}

    def alive(self) -> list[int]:
        self.look()
        return sorted(self._seen.keys() | {pid for pid in self.marked() if pid not in (self._driver, os.getpid())})

    def marked(self) -> list[int]:
        """Processes that bear the mark."""
        found = []
        for place in PROC.glob("[0-9]*"):
            try:
                if self._mark in (place / "environ").read_bytes().split(b"\0") and _stat(place) is not None:
                    found.append(int(place.name))
            except OSError:
                continue  # it ended meanwhile, or is another user's
        return found

    def end(self, quiet_scans: int) -> None:
        """Kill until nothing was found for a while: what dies may just have started another, and a process
        between fork and exec cannot be recognised."""
        quiet = 0
        while quiet < quiet_scans:
            pids = self.alive()
            quiet = 0 if pids else quiet + 1
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    continue
            time.sleep(SCAN_S)


def _stat(place: Path) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the state on; None for what is gone or dead."""
    try:
        fields = (place / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields


def main() -> None:
    family = Family(sys.argv[1], int(sys.argv[2]))
    print("ready", flush=True)
    begin = time.monotonic()
    while not select.select([sys.stdin], [], [], SCAN_S if time.monotonic() - begin < START_S else POLL_S)[0]:
        family.look()
    if sys.stdin.buffer.read() == GOODBYE:
        family.end(quiet_scans=1)
    else:
        time.sleep(GRACE_S)
        family.end(QUIET_SCANS)


if __name__ == "__main__":
    main()
