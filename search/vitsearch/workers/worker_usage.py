"""What the Ray workers of this driver get of the machine: seconds on a core, waiting for a core, for the disk.

Only what runs on this machine is seen, and only where there is `/proc`; elsewhere nothing is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitsearch.workers.process_tree import PROC, descendants, stat_fields

TITLE = b"ray::_run_task"
"""How the title of a Ray worker begins while it runs one of our stages (`ray_runner._run_task_on`)."""
STARVED_SHARE = 0.4
"""A worker that gets less than this share of a core, and wants more, is slowed by others. Two workers share a core
while the other one measures (`LocalWorkers.make_room`)."""


@dataclass(frozen=True)
class WorkerUsage:
    """Of one worker since it started: seconds on a core, and seconds in which it was ready but had no core (None where
    the kernel does not count them). `reads_disk`: it waits for the disk at this moment. `is_stopped`: a signal, or a
    debugger, has stopped it."""

    cpu_s: float
    ready_s: float | None
    reads_disk: bool
    is_stopped: bool = False


def worker_usage(driver: int | None = None) -> dict[int, WorkerUsage]:
    """By pid, of the workers below the process `driver` (default: this one) that run a stage now."""
    by_pid = {}
    for pid in descendants(os.getpid() if driver is None else driver):
        folder = PROC / str(pid)
        try:
            if (folder / "cmdline").read_bytes().startswith(TITLE):
                by_pid[pid] = _usage(folder)
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return by_pid


def why_slow(before: Mapping[int, WorkerUsage], now: Mapping[int, WorkerUsage], seconds: float) -> str | None:
    """Why workers that run since `seconds` ago make little progress; None when they compute, or nothing is known."""
    pairs = [(before[pid], now[pid]) for pid in before.keys() & now.keys()]
    if not pairs or seconds <= 0:
        return None
    cpu_s = sum(later.cpu_s - earlier.cpu_s for earlier, later in pairs)
    share = cpu_s / seconds / len(pairs)
    if share >= STARVED_SHARE:
        return None
    got = f"got {share:.0%} of a core in the last {seconds:.0f} s".replace("%", " %")
    ready_s = sum(later.ready_s - earlier.ready_s for earlier, later in pairs if later.ready_s and earlier.ready_s)
    wanted_share = (cpu_s + ready_s) / seconds / len(pairs)
    if ready_s > cpu_s and wanted_share >= STARVED_SHARE:
        return f"{got}: other processes use this machine"
    if all(earlier.reads_disk and later.reads_disk for earlier, later in pairs):
        return f"{got}: waits for the disk"
    return None


def stopped(before: Mapping[int, WorkerUsage], now: Mapping[int, WorkerUsage]) -> str | None:
    """Which workers are stopped since `before`, and what lets them continue; None when none is."""
    pids = [str(pid) for pid in sorted(before.keys() & now.keys()) if before[pid].is_stopped and now[pid].is_stopped]
    return (
        f"is stopped: a signal has stopped its process; to let it continue: kill -CONT {' '.join(pids)}"
        if pids
        else None
    )


def _usage(folder: Path) -> WorkerUsage:
    state, user, system = (stat_fields(folder)[index] for index in (0, 11, 12))
    states = [stat_fields(thread)[0] for thread in _threads(folder)]
    cpu_s = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return WorkerUsage(cpu_s, _ready_s(folder), "D" in states, state in "Tt")


def _threads(folder: Path) -> Iterator[Path]:
    return (folder / "task").glob("[0-9]*")


def _ready_s(folder: Path) -> float | None:
    try:
        waited = [int((thread / "schedstat").read_text().split()[1]) for thread in _threads(folder)]
    except FileNotFoundError:
        return None
    return sum(waited) / 1e9
