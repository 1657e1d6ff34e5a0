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
from typing import IO, Dict, Mapping, NamedTuple, Optional

from vitsearch_agent.base import processes

logger = logging.getLogger(__name__)

MOST_CHILDREN = 16
"""A parent is replaced after so many: what a library changes in it, and its place in memory, do not last for ever."""
START_S, FORK_S = 60.0, 10.0
_PID = struct.Struct("<i")
_POLL_S = 0.005


class ParentLost(Exception):
    """A parent has ended, or does not answer; its children are started freshly."""


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
    """A process that has imported a runtime and forks its children."""

    def __init__(self, runtime: str, environment: Mapping[str, str]) -> None:
        self._left = MOST_CHILDREN
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vitsearch_agent.measure.child.parent", runtime, str(os.getpid())],
                cwd=os.sep,
                env=dict(environment),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise ParentLost(str(error)) from error
        finally:
            theirs.close()
        self._is_ready = False

    @property
    def is_over(self) -> bool:
        """Whether it has forked as many children as it should, or has ended."""
        return self._left <= 0 or self._process.poll() is not None

    def fork(self, job_path: str, temporary: str, log: IO[bytes], alive: int) -> ForkedChild:
        """Fork a child that runs a job.

        Args:
            job_path: The job's file.
            temporary: The child's folder for temporary files.
            log: Where its output goes.
            alive: The end of a pipe that it keeps open while it lives.

        Raises:
            ParentLost: The parent has ended, or does not answer.
        """
        request = {"job": job_path, "temporary": temporary, "processors": sorted(os.sched_getaffinity(0))}
        descriptors = array.array("i", [log.fileno(), alive])
        try:
            if not self._is_ready:
                self._read(START_S)
                self._is_ready = True
            message = json.dumps(request).encode("ascii")
            self._socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            self._left -= 1
            return ForkedChild(self._read(FORK_S))
        except OSError as error:
            raise ParentLost(str(error)) from error

    def close(self) -> None:
        processes.kill_group(self._process.pid)
        self._process.wait()
        self._socket.close()

    def _read(self, limit_s: float) -> int:
        if not select.select([self._socket], [], [], limit_s)[0]:
            raise ParentLost(f"no answer in {limit_s:g} s")
        answer = self._socket.recv(_PID.size)
        if len(answer) < _PID.size:
            raise ParentLost("it has ended")
        return int(_PID.unpack(answer)[0])


class ParentKey(NamedTuple):
    """What its children have in common: a runtime in an environment, and their place in a measurement."""

    runtime: str
    environment: str
    place: int


class WarmParents:
    """The parents of one thread, which must outlive them: the kernel kills a parent with the thread that started it.

    The process must adopt orphans (`processes.adopt_orphans`); otherwise its forked children are not its own.
    """

    def __init__(self) -> None:
        self._parents: Dict[ParentKey, WarmParent] = {}

    def parent(self, key: ParentKey, environment: Mapping[str, str]) -> WarmParent:
        """Return the parent for a key, a new one where there is none. Parents of other runtimes and environments end.

        Raises:
            ParentLost: It cannot be started.
        """
        for other in [kept for kept in self._parents if kept[:2] != key[:2]]:
            self.drop(other)
        if key in self._parents and self._parents[key].is_over:
            self.drop(key)
        if key not in self._parents:
            self._parents[key] = WarmParent(key.runtime, environment)
        return self._parents[key]

    def drop(self, key: ParentKey) -> None:
        parent = self._parents.pop(key, None)
        if parent is not None:
            parent.close()

    def close(self) -> None:
        """End all parents: nothing is measured for some time."""
        for key in list(self._parents):
            self.drop(key)


class Parents(NamedTuple):
    """Where a child of one place in a measurement is forked."""

    kept: WarmParents
    key: ParentKey

    def parent(self, environment: Mapping[str, str]) -> Optional[WarmParent]:
        """Return its parent; None where none can be started."""
        try:
            return self.kept.parent(self.key, environment)
        except ParentLost as error:
            logger.warning("no parent of measuring processes: %s", error)
            return None
