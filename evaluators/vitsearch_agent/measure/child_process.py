"""Run the measuring child; every way in which it can end becomes an answer or an error.

Call `run_child` from a thread that outlives the child: the kernel kills the child when the *thread* that
started it ends.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Union

from vitsearch_agent.base import processes
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.base.plain_files import clear, create_plain, open_plain, read_plain, remove_tree
from vitsearch_agent.base.python import run_module
from vitsearch_agent.errors import FAILURE_KINDS, AgentError, MeasurementFailed, StorageFull
from vitsearch_agent.measure.memory_limit import MemoryLimit
from vitsearch_agent.measure.seen import PeakMemory, Seen, children_cpu_s
from vitsearch_agent.measure.warm_parents import ForkedChild, WarmParent

ANSWER_MAX_BYTES = 2 << 20
_OUTPUT_TAIL_BYTES = 2048
_POLL_S = 0.25
_OUTPUT = "output.log"


OnStart = Callable[[processes.ProcessId], None]


class Interrupted(Exception):
    """The child was killed because its `stop` signal was set."""


class ChildDied(MeasurementFailed):
    """A signal killed the child before it wrote an answer; `interruptions.verdict` decides what that means.

    Callers that do not distinguish signals can treat it as a crash.
    """

    def __init__(self, signal_name: str, details: Mapping[str, Any]) -> None:
        super().__init__("crash", f"the child was killed by {signal_name}", dict(details, signal=signal_name))
        self.signal_name = signal_name


class StopSignal:
    """An event that `select` can wait for; safe to set from signal handlers and other threads."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def wakeup_fileno(self) -> int:
        """Return the descriptor to write to: any byte sets the event."""
        return self._write

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so the event is set
            os.write(self._write, b"!")

    def is_set(self) -> bool:
        return bool(select.select([self._read], [], [], 0)[0])

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def run_child(
    job: Mapping[str, Any],
    folder: str,
    wall_s: float,
    stop: StopSignal,
    on_start: Optional[OnStart] = None,
    python: str = sys.executable,
    parent: Optional[WarmParent] = None,
) -> Dict[str, Any]:
    """Run one job in `folder` and return the answer that the child wrote to `job["answer"]`, and what was `seen` of it.

    The child is forked from `parent`, if there is one that answers, else started as a process of its own.

    Raises MeasurementFailed with the kind of failure (`timeout` after `wall_s` seconds), ChildDied,
    StorageFull when the disk had no room for the answer, and Interrupted when `stop` was set. When this
    returns or raises, no process that the child started is left, and none of its temporary files.
    """
    keep = processes.children()
    log_path = os.path.join(folder, _OUTPUT)
    job_path = os.path.join(folder, "job.json")
    # An earlier child of this job could leave a link in the place of a file: this process may write everywhere.
    with create_plain(job_path) as stream:
        stream.write(json.dumps(dict(job, parent_pid=os.getpid())).encode("ascii"))
    answer_path = os.path.join(folder, job["answer"])
    clear(answer_path)
    evidence, memory = _MemoryEvidence(job.get("group")), PeakMemory()
    temporary = tempfile.mkdtemp(prefix="tmp-", dir=os.path.abspath(folder))
    command = run_module(python, "vitsearch_agent.measure.child.main", os.path.abspath(job_path))
    # In the usual folder for temporary files it could change those of others.
    environment = dict(child_environment(python, folder), TMPDIR=temporary)
    start = Start(command, environment, os.path.abspath(job_path), temporary)
    start_s, start_cpu_s = time.monotonic(), children_cpu_s()
    try:
        ended = _spawn_and_wait(start, parent, folder, wall_s, stop, evidence.watching(on_start), memory)
    finally:
        end_s = time.monotonic()
        processes.sweep(keep)
        remove_tree(temporary)
    if os.path.lexists(answer_path):  # a crash after the answer was written does not matter
        seen = Seen(start_s, end_s, children_cpu_s() - start_cpu_s, memory.mb)
        return dict(read_answer(answer_path), seen=seen.to_json())
    if ended == "stopped":
        raise Interrupted()
    if ended == "timeout":
        raise MeasurementFailed("timeout", f"no result after {wall_s:g} s", _output(log_path))
    raise _failure(int(ended), evidence.was_short_of_memory(), _output(log_path))


def read_answer(path: str) -> Dict[str, Any]:
    """Return the answer in a file.

    Raises MeasurementFailed with the reported failure, or `protocol` when the file is not a valid answer.
    """
    try:
        answer = parse_json(read_plain(path, ANSWER_MAX_BYTES))
    except FileNotFoundError:
        raise
    except OSError as error:  # a model may put there what it likes: a link, a FIFO
        raise MeasurementFailed("protocol", f"the child's answer cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MeasurementFailed("protocol", f"the child's answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise MeasurementFailed("protocol", "the child's answer is not a JSON object")
    failure = answer.get("failure")
    if failure is not None:
        raise _reported_failure(failure, _output(os.path.join(os.path.dirname(path), _OUTPUT)))
    return answer


def _reported_failure(failure: Any, details: Dict[str, Any]) -> MeasurementFailed:
    """Check the failure in an answer: a model runs in the child's process and could write anything there."""
    kind, message = (failure.get("kind"), failure.get("message")) if isinstance(failure, dict) else (None, None)
    if kind in FAILURE_KINDS and isinstance(message, str):
        return MeasurementFailed(kind, message, details)
    message = f"the measuring process reported an unknown failure: {failure!r:.200}"
    return MeasurementFailed("protocol", message, details)


class Start(NamedTuple):
    """How a child is started: its command and environment, its job's file and its folder for temporary files."""

    command: List[str]
    environment: Dict[str, str]
    job_path: str
    temporary: str

    def freshly(self, log: IO[bytes], alive: int) -> "subprocess.Popen[bytes]":
        """Start a process of its own."""
        return subprocess.Popen(
            self.command,
            # Not in the folder, where an earlier child could leave a module or a library that would run before
            # this one gives up its rights: Python and the loader look in the present folder. It goes there itself.
            cwd=os.sep,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(alive,),
        )

    def forked(self, parent: Optional[WarmParent], log: IO[bytes], alive: int) -> Optional[ForkedChild]:
        """Fork the child from a parent; None where there is none, or where it is lost."""
        return None if parent is None else parent.fork(self.job_path, self.temporary, log, alive)


def _spawn_and_wait(
    start: Start,
    parent: Optional[WarmParent],
    folder: str,
    wall_s: float,
    stop: StopSignal,
    on_start: OnStart,
    memory: PeakMemory,
) -> str:
    """Return the child's return code as text, `timeout` or `stopped`."""
    # The child holds the writing end. When it ends, `select` returns at once, without polling on the child's core.
    alive, alive_write = os.pipe()
    try:
        with create_plain(os.path.join(folder, _OUTPUT)) as log:
            child = start.forked(parent, log, alive_write) or start.freshly(log, alive_write)
    except OSError as error:
        os.close(alive)
        if error.errno in processes.DISK_ERRNOS:
            raise
        raise MeasurementFailed("spawn", f"{start.command[0]} cannot be started: {error}") from error
    finally:
        os.close(alive_write)
    try:
        identity = processes.identify(child.pid)
        if identity is not None:
            on_start(identity)
        return _wait(child, alive, wall_s, stop, memory)
    finally:
        processes.kill_group(child.pid)
        child.wait()
        os.close(alive)


def _wait(
    child: Union["subprocess.Popen[bytes]", ForkedChild],
    alive: int,
    wall_s: float,
    stop: StopSignal,
    memory: PeakMemory,
) -> str:
    end = time.monotonic() + wall_s
    watched = [alive, stop.fileno()]
    while True:
        if child.poll() is not None:
            return str(child.returncode)
        memory.read(child.pid)
        left = end - time.monotonic()
        if left <= 0:
            return "timeout"
        # Polling is needed: a process that the model forked may hold the pipe open for ever.
        ready = select.select(watched, [], [], min(left, _POLL_S))[0]
        if stop.fileno() in ready:
            return "stopped"
        if alive in ready:
            watched = [stop.fileno()]
            # The child ends now, or it closed the pipe itself and keeps running.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=min(left, 1.0))


def child_environment(python: str, folder: str) -> Dict[str, str]:
    """Return a child's environment: what a runtime needs to find its libraries and this package, no secrets."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    for name, value in os.environ.items():
        if name.startswith(("CUDA_", "NVIDIA_", "LC_")):
            environment[name] = value
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    # Newer builds keep a database in the user's home and upload it from a thread, which disturbs the measurement.
    environment["ORT_DISABLE_TELEMETRY"] = "1"
    environment["CI"] = "true"  # the only switch of OpenVINO's telemetry, which writes into the home folder
    if python == sys.executable:
        return processes.with_package_path(environment)
    alone_in = os.path.join(os.path.abspath(folder), "package")
    clear(alone_in)  # an earlier child could change what is in it
    return processes.with_package_path(environment, alone_in)


class _MemoryEvidence:
    """Find out whether the kernel killed a child for memory."""

    def __init__(self, group: Optional[str]) -> None:
        self._since_s = time.monotonic()
        self._group = MemoryLimit(group=group)
        self._kills = self._count()
        self._pid = 0

    def watching(self, on_start: Optional[OnStart]) -> OnStart:
        """Return an `on_start` that also records the child's pid."""

        def started(process: processes.ProcessId) -> None:
            self._pid = process.pid
            if on_start is not None:
                on_start(process)

        return started

    def was_short_of_memory(self) -> bool:
        kills = self._count()
        if kills is not None and self._kills is not None:
            return kills > self._kills
        return processes.kernel_killed(self._pid, self._since_s)

    def _count(self) -> Optional[int]:
        in_group = self._group.kills()
        return processes.out_of_memory_kills() if in_group is None else in_group


def _failure(returncode: int, short_of_memory: bool, details: Dict[str, Any]) -> AgentError:
    if returncode == processes.NO_ROOM:
        return StorageFull("the disk has no room for the child's answer")
    if returncode == 0:
        return MeasurementFailed("protocol", "the child ended without an answer", details)
    if returncode > 0:
        return MeasurementFailed("crash", f"the child ended with exit code {returncode}", details)
    number = -returncode
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL and short_of_memory:
        return MeasurementFailed("out_of_memory", "the kernel killed it for memory", dict(details, signal=name))
    return ChildDied(name, details)


def _output(log_path: str) -> Dict[str, Any]:
    try:
        with open_plain(log_path) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _OUTPUT_TAIL_BYTES))
            tail = stream.read().decode("utf-8", "replace")
    except OSError:
        return {}
    return {"output_tail": tail} if tail else {}
