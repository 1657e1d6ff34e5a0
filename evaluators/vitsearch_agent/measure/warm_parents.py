"""Warm parents of measuring children: Python and the library of a runtime, imported once for several children.

The first child of a measurement is started freshly, because its memory and its times to load are those of a user's
process. The others are forked, each from a parent of its own: where libraries lie in memory differs between them, as
between processes that are started.
"""

import array
import json
import logging
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from typing import IO, Mapping, NamedTuple, Optional, Set, Tuple

from vitsearch_agent.base import processes
from vitsearch_agent.base.python import run_module
from vitsearch_agent.base.system import THIS_MACHINE, System
from vitsearch_agent.conditions.environment import available_mb

logger = logging.getLogger(__name__)

MOST_PARENTS = 6
"""Those of two runtimes, which a study measures in turn."""
MOST_CHILDREN = 16
"""A parent is replaced after so many: what a library changes in it, and its place in memory, do not last for ever."""
LEAST_AVAILABLE_MB = 1000
"""With less, no parents are kept."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Numpy starts threads when it is imported; they do not survive a fork, and nothing measured uses them."""
START_S, FORK_S = 60.0, 10.0
_PID = struct.Struct("<i")
_POLL_S = 0.005


class ForkedChild:
    """A child that a parent has forked for this process; used as `subprocess.Popen` is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: Optional[int] = None

    def poll(self) -> Optional[int]:
        return self._wait(os.WNOHANG)

    def wait(self, timeout: Optional[float] = None) -> Optional[int]:
        """Wait until the child ends; `subprocess.TimeoutExpired` after `timeout` seconds."""
        if timeout is None:
            return self._wait(0)
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_POLL_S)
        return self.returncode

    def _wait(self, options: int) -> Optional[int]:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # reaped by a sweep, which has killed it
                pid, status = self.pid, 9
            if pid == self.pid:
                self.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self.returncode


class WarmParent:
    """A process that has imported a runtime and forks its children. `OSError` where it cannot be started."""

    def __init__(self, runtime: str, environment: Mapping[str, str]) -> None:
        self._left = MOST_CHILDREN
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                run_module(sys.executable, "vitsearch_agent.measure.child.parent", runtime, str(os.getpid())),
                cwd=os.sep,
                env=dict(environment, **ONE_THREAD),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self.was_ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether it has forked as many children as it should, or has ended."""
        return self._left <= 0 or self._process.poll() is not None

    def fork(self, job_path: str, temporary: str, log: IO[bytes], alive: int) -> Optional[ForkedChild]:
        """Fork a child that runs a job.

        Args:
            job_path: The job's file.
            temporary: The child's folder for temporary files.
            log: Where its output goes.
            alive: The end of a pipe that it keeps open while it lives.

        Returns:
            The child; None if this parent has ended or does not answer, and then it is over.
        """
        try:
            return self._forked(job_path, temporary, array.array("i", [log.fileno(), alive]))
        except OSError as error:
            logger.warning("a parent of measuring processes is lost (%s); a process is started instead", error)
            self.close()
            return None

    def close(self) -> None:
        """End it; its children go on."""
        if self._process.poll() is None:
            processes.kill_group(self._process.pid)
            self._process.wait()
        self._socket.close()

    def _forked(self, job_path: str, temporary: str, descriptors: "array.array[int]") -> ForkedChild:
        request = {"job": job_path, "temporary": temporary, "processors": sorted(os.sched_getaffinity(0))}
        if not self.was_ready:
            self._read(START_S)
            self.was_ready = True
        message = json.dumps(request).encode("ascii")
        self._socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        self._left -= 1
        return ForkedChild(self._read(FORK_S))

    def _read(self, limit_s: float) -> int:
        if not select.select([self._socket], [], [], limit_s)[0]:
            raise TimeoutError(f"no answer in {limit_s:g} s")
        answer = self._socket.recv(_PID.size)
        if len(answer) < _PID.size:
            raise ConnectionError("it has ended")
        return int(_PID.unpack(answer)[0])


class ParentKey(NamedTuple):
    """What its children have in common: a runtime in an environment, and their place in a measurement."""

    environment: str
    runtime: str
    place: int


class WarmParents:
    """The parents of one thread, which must outlive them: the kernel kills a parent with the thread that started it.

    The process must adopt orphans (`processes.adopt_orphans`); otherwise its forked children are not its own.
    """

    def __init__(self, system: System = THIS_MACHINE) -> None:
        self._parents: OrderedDict[ParentKey, WarmParent] = OrderedDict()
        self._refused: Set[Tuple[str, str]] = set()
        self._system = system

    def __len__(self) -> int:
        return len(self._parents)

    def parent(self, key: ParentKey, environment: Mapping[str, str]) -> Optional[WarmParent]:
        """Return the parent of a key, a new one where there is none.

        Parents of other environments end, and the one that was used least recently where there are `MOST_PARENTS`.

        Args:
            key: What its children have in common.
            environment: The environment variables of the children.

        Returns:
            The parent; None where none can be started, where the last one did not get ready, where memory is short, or
            on a system whose processes adopt no orphans.
        """
        self.make_room()
        if not processes.adopts_orphans() or self._is_memory_short():
            return None
        for other in [kept for kept in self._parents if kept.environment != key.environment]:
            self._drop(other)
        if key in self._parents and self._parents[key].is_over:
            self._drop(key)
        if (key.environment, key.runtime) in self._refused:
            return None
        if key not in self._parents:
            if len(self._parents) >= MOST_PARENTS:
                self._drop(next(iter(self._parents)))
            try:
                self._parents[key] = WarmParent(key.runtime, environment)
            except OSError as error:
                logger.warning("no parent of measuring processes can be started: %s", error)
                return None
        self._parents.move_to_end(key)
        return self._parents[key]

    def make_room(self) -> None:
        """End all parents where memory is short: a model needs it more."""
        if self._is_memory_short():
            self.close()

    def close(self) -> None:
        """End all parents: nothing is measured for some time."""
        for key in list(self._parents):
            self._drop(key)

    def _is_memory_short(self) -> bool:
        available = available_mb(self._system)
        return available is not None and available < LEAST_AVAILABLE_MB

    def _drop(self, key: ParentKey) -> None:
        parent = self._parents.pop(key)
        if parent.is_over and not parent.was_ready:
            self._refused.add((key.environment, key.runtime))
        parent.close()
