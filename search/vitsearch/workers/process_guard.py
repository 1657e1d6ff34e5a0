"""A small process that outlives the driver: it pauses the workers of a run, moves them between processors, and ends all
processes of a dead one.

Ray's helper processes notice a killed driver late, or never. The guard remembers every descendant of the driver that
it ever saw, and finds more by a mark in their environment. One of the two is not enough: a process that renames
itself overwrites its environment, and one that is orphaned at once is never seen as a descendant. The guard reads its
standard input, a pipe that only the driver holds; when the pipe closes, it kills what is left.

Whoever dies while the workers are stopped, somebody lets them continue or ends them:

the driver          the guard, when the pipe closes
the driver hangs    the guard, after `LEASE_S` in which the driver did not ask again
the guard           the driver, which notices it at its next request and starts another guard
both                the kernel: Ray's node dies with the driver, and then the kernel sends SIGHUP and SIGCONT to the
                    process groups of its workers, which are orphaned; the next run on this machine kills whatever is
                    stopped and belongs to a dead driver

Linux only (`/proc`); elsewhere workers do not pause, and Ray's own clean-up has to suffice.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from vitsearch.workers.process_tree import (
    MARK,
    PROC,
    SCAN_S,
    ProcessId,
    ProcessTree,
    kill_stopped_orphans,
    process_id,
    token_of,
)
from vitsearch_agent.base.python import run_module

logger = logging.getLogger(__name__)

PAUSE, RESUME, GOODBYE = b"pause", b"resume", b"done"
"""Requests, each a line. The numbers of processors may follow `RESUME`."""
LONGEST_REQUEST = 4096
READY = b"ready\n"
ANSWER_S = 10.0
"""A guard that is silent for longer is replaced."""
LEASE_S = 15.0
"""A pause ends after this time, unless the driver asks for it again."""
GRACE_S = 1.0
EMPTY_SCANS = 20
"""The guard of a dead driver stops after this many scans in a row that found no process."""
START_S = 15.0
"""In the first seconds descendants are looked for every `SCAN_S`, later every `POLL_S`."""
POLL_S = 0.5


class ProcessGuard:
    """Context manager of a driver: enter before any process is started, leave after an orderly shutdown."""

    def __enter__(self) -> ProcessGuard:
        self._process: subprocess.Popen[bytes] | None = None
        if PROC.exists():
            kill_stopped_orphans()
            driver = process_id(os.getpid())
            self._token = os.environ[MARK] = token_of(driver)
            self._before = ProcessTree(self._token, driver.pid).ids()
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            try:
                self._process.communicate(GOODBYE + b"\n", ANSWER_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            if self._process.returncode:  # it was killed, or is stopped, before it had ended the others
                self._tree().kill(empty_scans=1)
            os.environ.pop(MARK, None)

    @property
    def pid(self) -> int | None:
        """The pid of the guard; None on a system without `/proc`."""
        return None if self._process is None else self._process.pid

    def pause(self) -> None:
        """Stop the Ray workers of this driver and what they have started. Ask again well within `LEASE_S`."""
        if not self._ask(PAUSE):
            self._replace()
            self._ask(PAUSE)

    def resume(self, cores: Iterable[int] = ()) -> None:
        """Let all processes of the run continue, and workers, also those to come, on these processors alone (none: on
        those where they are)."""
        request = b" ".join([RESUME, *(str(core).encode() for core in cores)])
        if not self._ask(request):
            self._replace()
            self._ask(request)

    def _ask(self, request: bytes) -> bool:
        """Send a request; whether the guard has done it."""
        if self._process is None:
            return True
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request + b"\n")
        except OSError:
            return False
        return self._answers()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        return bool(readable) and self._process.stdout.readline() == READY

    def _replace(self) -> None:
        """Do the work of a guard that has died or hangs, and start another one."""
        assert self._process is not None
        logger.warning("the guard of this run (pid %d) does not answer: starting another one", self._process.pid)
        self._process.kill()
        self._process.communicate()
        self._tree().resume()
        self._start()

    def _tree(self) -> ProcessTree:
        return ProcessTree(self._token, os.getpid(), self._before)

    def _start(self) -> None:
        """Return when the guard watches."""
        command = run_module(sys.executable, __name__, self._token, str(os.getpid()), *map(str, self._before))
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()


class Watch:
    """What the guard does between its start and its end."""

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._started = time.monotonic()
        self._paused_until: float | None = None
        self._cores: tuple[int, ...] = ()

    def run(self) -> bool:
        """Watch, pause and resume until the driver has ended; whether it said goodbye."""
        self._answer()
        while True:
            if not select.select([sys.stdin], [], [], self._interval_s())[0]:
                self._look()
                continue
            request, *cores = os.read(sys.stdin.fileno(), LONGEST_REQUEST).split() or [b""]
            if request not in (PAUSE, RESUME):
                self._resume()
                return request == GOODBYE
            if request == PAUSE:
                self._pause()
            else:
                self._cores = tuple(map(int, cores))
                self._resume()
            self._answer()

    def _interval_s(self) -> float:
        return SCAN_S if time.monotonic() - self._started < START_S else POLL_S

    def _look(self) -> None:
        """Find new processes. A worker that starts during a pause is stopped too, any other is moved to where it may
        run."""
        if self._paused_until is None:
            self._tree.place_workers(self._cores) if self._cores else self._tree.scan()
        elif time.monotonic() > self._paused_until:
            self._resume()
        else:
            self._tree.stop_workers()

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + LEASE_S
        self._tree.stop_workers()

    def _resume(self) -> None:
        if self._cores:
            self._tree.place_workers(self._cores)
        if self._paused_until is not None:
            self._paused_until = None
            self._tree.resume()

    def _answer(self) -> None:
        with suppress(BrokenPipeError):  # the driver has just died: its end of the other pipe is closed too
            os.write(sys.stdout.fileno(), READY)


def main() -> None:
    token, driver, *before = sys.argv[1:]
    tree = ProcessTree(
        token, int(driver), [ProcessId(int(pid), start) for pid, start in (b.split(".") for b in before)]
    )
    if Watch(tree).run():
        tree.kill(empty_scans=1)
    else:
        time.sleep(GRACE_S)
        tree.kill(EMPTY_SCANS)


if __name__ == "__main__":
    main()
