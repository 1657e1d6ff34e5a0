"""The processes of a run, found in `/proc`, and the signals that they get. Linux only."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MARK = "VITSEARCH_RUN"
SCAN_S = 0.1
"""Seconds between two scans while processes are killed."""
STOP_SCANS, STOP_SCAN_S = 20, 0.02
"""At most this many scans, this far apart, wait for processes to stop: a process that waits for a disk stops later."""
KILL_SCANS = 50
"""At most this many scans wait for processes to end, which takes longer for one that waits for a disk."""
PROC = Path("/proc")


class ProcessId(NamedTuple):
    """A pid together with the start time of its process, in clock ticks since boot: pids are used again."""

    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.pid}.{self.started}"

    @classmethod
    def of_text(cls, text: str) -> ProcessId | None:
        """Read what `str` gives, with or without more after another dot; None for anything else."""
        pid, *rest = text.split(".")
        return cls(int(pid), rest[0]) if pid.isdigit() and rest else None


class Process(NamedTuple):
    state: str
    parent: int
    started: str


class ProcessTree:
    """The processes of a run, without the driver and this process."""

    def __init__(self, token: str, driver: int, before: Iterable[ProcessId] = ()) -> None:
        """`driver` is the pid of the driver; `token` is the value of `MARK` in the environment of the run.

        The pid is passed in because `os.getppid` of an orphan is 1, whose descendants are all processes.
        `before` are descendants of the driver that do not belong to the run.
        """
        if driver <= 1:
            raise ValueError(f"pid {driver} cannot be a driver: it must be above 1")
        self._mark = f"{MARK}={token}".encode()
        self._driver = driver
        self._driver_started = process_id(driver).started
        self._seen: dict[int, Process] = {}
        self._before = frozenset(before)
        self.scan()

    def scan(self) -> None:
        """Remember the descendants of the driver and of all processes seen before; forget those that ended."""
        table = _table()
        starts = {pid: process.started for pid, process in self._seen.items()} | {self._driver: self._driver_started}
        tree = {pid for pid, start in starts.items() if pid > 1 and pid in table and table[pid].started == start}
        tree = _with_descendants(tree, table) - {self._driver, os.getpid()}
        self._seen = {pid: table[pid] for pid in tree if ProcessId(pid, table[pid].started) not in self._before}

    def alive(self) -> list[int]:
        """Pids of the descendants and of the marked processes that still run."""
        self.scan()
        return sorted(self._seen.keys() | {pid for pid in self.marked() if pid not in (self._driver, os.getpid())})

    def marked(self) -> list[int]:
        """Pids of the processes that carry the mark in their environment."""
        return [pid for pid in _table() if self._mark in _environment(pid)]

    def ids(self) -> list[ProcessId]:
        """What the last scan has found."""
        return [ProcessId(pid, process.started) for pid, process in self._seen.items()]

    def stop_workers(self) -> None:
        """Stop the Ray workers, and all that they have started.

        Returns when a scan finds none that runs: a process may start another one just before it is stopped.
        """
        for _ in range(STOP_SCANS):
            running = [pid for pid in self._workers() if self._seen[pid].state not in "Tt"]
            if not running:
                return
            for pid in running:
                _signal(pid, signal.SIGSTOP)
            time.sleep(STOP_SCAN_S)

    def place_workers(self, cores: Collection[int]) -> None:
        """Let the Ray workers, and all that they have started, run on these processors alone."""
        for pid in self._workers():
            _place(pid, set(cores))

    def _workers(self) -> set[int]:
        self.scan()
        return _with_descendants({pid for pid in self._seen if is_worker(_command(pid))}, self._seen)

    def resume(self) -> None:
        """Let every process of the run continue.

        All get the signal, also those that seem to run: one that waits for a disk stops only when it returns.
        """
        for pid in self.alive():
            _signal(pid, signal.SIGCONT)

    def kill(self, empty_scans: int) -> None:
        """Kill until `empty_scans` scans in a row find nothing.

        One empty scan is not enough: a dying process may just have started another, and a process between fork
        and exec cannot be recognised.
        """
        empty = 0
        while empty < empty_scans:
            pids = self.alive()
            empty = 0 if pids else empty + 1
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            time.sleep(SCAN_S)


def is_worker(command: str) -> bool:
    """Whether a command line (`/proc/PID/cmdline`) is that of a Ray worker, or of one that is just starting.

    The helpers of Ray's node, `ray::DashboardAgent` and `ray::RuntimeEnvAgent`, are not workers.
    """
    title, *arguments = command.split("\0")
    if title.startswith("ray::"):
        return not title.rstrip().endswith("Agent")
    return any(argument.endswith("/default_worker.py") for argument in arguments)


def descendants(pid: int) -> set[int]:
    """Pids of the living processes below a process."""
    return _with_descendants({pid}, _table()) - {pid}


def process_id(pid: int) -> ProcessId:
    """The identity of a process; `started` is empty when there is none with this pid."""
    process = _process(PROC / str(pid))
    return ProcessId(pid, "" if process is None else process.started)


def kill_stopped_orphans() -> None:
    """Kill the stopped processes of runs whose driver is dead: nobody else would let them continue."""
    for pid, process in _table().items():
        driver = _driver_of(_environment(pid)) if process.state == "T" else None
        if driver is not None and process_id(driver.pid) != driver:
            _signal(pid, signal.SIGKILL)


def kill_marked(entry: str) -> None:
    """Kill the processes that were started with `entry` in their environment, and those that they start meanwhile."""
    for _ in range(KILL_SCANS):
        left = [pid for pid in _table() if entry.encode() in _environment(pid)]
        if not left:
            return
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(SCAN_S)


def token_of(driver: ProcessId) -> str:
    """A new value of `MARK` for a run. `kill_stopped_orphans` reads the driver in it."""
    return f"{driver}.{secrets.token_hex(8)}"


def _driver_of(environment: list[bytes]) -> ProcessId | None:
    prefix = f"{MARK}=".encode()
    marks = [entry.removeprefix(prefix) for entry in environment if entry.startswith(prefix)]
    return ProcessId.of_text(marks[0].decode(errors="replace")) if marks else None


def _table() -> dict[int, Process]:
    """Every living process of this machine by pid."""
    processes = ((int(folder.name), _process(folder)) for folder in PROC.glob("[0-9]*"))
    return {pid: process for pid, process in processes if process is not None}


def _process(folder: Path) -> Process | None:
    """What `/proc/PID/stat` says; None for a process that has ended or is a zombie."""
    try:
        fields = stat_fields(folder)
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else Process(fields[0], int(fields[1]), fields[19])


def stat_fields(folder: Path) -> list[str]:
    """The fields of a process' or thread's `stat` from the third, the state, on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _with_descendants(pids: set[int], table: dict[int, Process]) -> set[int]:
    tree, size = set(pids), -1
    while size != len(tree):
        size = len(tree)
        tree |= {pid for pid, process in table.items() if process.parent in tree}
    return tree


def _environment(pid: int) -> list[bytes]:
    """Empty for a process that has ended or belongs to another user."""
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _place(pid: int, cores: set[int]) -> None:
    """Move all threads of a process, unless it is there, has ended or belongs to another user."""
    with suppress(OSError):
        if os.sched_getaffinity(pid) != cores:
            for thread in (PROC / str(pid) / "task").iterdir():
                with suppress(ProcessLookupError):  # it has just ended
                    os.sched_setaffinity(int(thread.name), cores)


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal, unless the process has ended or belongs to another user."""
    with suppress(OSError):
        os.kill(pid, number)
