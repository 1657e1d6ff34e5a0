"""Ends every process of a run when its driver dies.

Ray's helper processes notice a killed driver late, or never. The reaper is a small process of its own: it remembers
every descendant of the driver that it ever saw, and finds more by a mark in their environment. One of the two is not
enough: a process that renames itself overwrites its environment, and one that is orphaned at once is never seen as
a descendant. The reaper reads its standard input, a pipe that only the driver holds; when the pipe closes, it kills
what is left. Linux only (``/proc``); elsewhere Ray's own clean-up has to suffice.
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
EMPTY_SCANS = 20
"""The reaper stops after this many scans in a row that found no process."""
SCAN_S = 0.1
"""Seconds between scans for descendants in the first ``START_S`` seconds, and while killing."""
START_S = 15.0
POLL_S = 0.5
"""Seconds between scans for descendants after the first ``START_S``."""
PROC = Path("/proc")


class ProcessReaper:
    """Context manager of a driver: enter before any process is started, leave after an orderly shutdown."""

    def __enter__(self) -> ProcessReaper:
        self._process: subprocess.Popen[bytes] | None = None
        if PROC.exists():
            os.environ[MARK] = secrets.token_hex(8)
            command = [sys.executable, str(Path(__file__)), os.environ[MARK], str(os.getpid())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            assert self._process.stdout is not None
            self._process.stdout.readline()  # it has recorded the processes that were there before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate(GOODBYE)
            os.environ.pop(MARK, None)


class ProcessTree:
    """The processes of a run, without the driver and this process. A pid is identified together with its start time."""

    def __init__(self, token: str, driver: int) -> None:
        """``driver`` is the pid of the driver; ``token`` is the value of :data:`MARK` in the environment of the run.

        The pid is passed in because ``os.getppid`` of an orphan is 1, whose descendants are all processes.
        Processes that the driver had started before are left out.
        """
        if driver <= 1:
            raise ValueError(f"pid {driver} cannot be a driver: it must be above 1")
        self._mark = f"{MARK}={token}".encode()
        self._driver = driver
        self._driver_started = (_stat(PROC / str(driver)) or [""] * 20)[19]
        self._seen: dict[int, str] = {}
        self._before: frozenset[tuple[int, str]] = frozenset()
        self.scan()
        self._before, self._seen = frozenset(self._seen.items()), {}

    def scan(self) -> None:
        """Remember the descendants of the driver and of all processes seen before; forget those that ended."""
        parents, started = {}, {}
        for folder in PROC.glob("[0-9]*"):
            if (stat := _stat(folder)) is not None:
                pid = int(folder.name)
                parents[pid], started[pid] = int(stat[1]), stat[19]
        known = self._seen | {self._driver: self._driver_started}
        tree = {pid for pid, start in known.items() if pid > 1 and started.get(pid) == start}
        size = -1
        while size != len(tree):
            size = len(tree)
            tree |= {pid for pid, parent in parents.items() if parent in tree}
        tree -= {self._driver, os.getpid()}
        self._seen = {pid: started[pid] for pid in tree if (pid, started[pid]) not in self._before}

    def alive(self) -> list[int]:
        """Pids of the descendants and of the marked processes that still run."""
        self.scan()
        return sorted(self._seen.keys() | {pid for pid in self.marked() if pid not in (self._driver, os.getpid())})

    def marked(self) -> list[int]:
        """Pids of the processes that carry the mark in their environment."""
        found = []
        for folder in PROC.glob("[0-9]*"):
            try:
                if self._mark in (folder / "environ").read_bytes().split(b"\0") and _stat(folder) is not None:
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended, or belongs to another user
        return found

    def kill(self, empty_scans: int) -> None:
        """Kill until ``empty_scans`` scans in a row find nothing.

        One empty scan is not enough: a dying process may just have started another, and a process between fork
        and exec cannot be recognised.
        """
        empty = 0
        while empty < empty_scans:
            pids = self.alive()
            empty = 0 if pids else empty + 1
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    continue
            time.sleep(SCAN_S)


def _stat(folder: Path) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the state on; ``None`` for a process that has ended or is a zombie."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields


def main() -> None:
    tree = ProcessTree(sys.argv[1], int(sys.argv[2]))
    print("ready", flush=True)
    begin = time.monotonic()
    while not select.select([sys.stdin], [], [], SCAN_S if time.monotonic() - begin < START_S else POLL_S)[0]:
        tree.scan()
    if sys.stdin.buffer.read() == GOODBYE:
        tree.kill(empty_scans=1)
    else:
        time.sleep(GRACE_S)
        tree.kill(EMPTY_SCANS)


if __name__ == "__main__":
    main()
