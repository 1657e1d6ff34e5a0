"""Run the measuring child and turn everything that can happen to it into an answer or an error.

Call `run_child` from a thread that outlives the child: the kernel's promise to kill the child with
its parent is tied to the *thread* that started it.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Mapping, Optional

from vitsearch_evaluators.base import processes
from vitsearch_evaluators.base.canonical_json import parse_json
from vitsearch_evaluators.errors import FAILURE_KINDS, EvaluatorError, MeasurementFailed, StorageFull
from vitsearch_evaluators.measure.memory_limit import MemoryLimit

ANSWER_MAX_BYTES = 1 << 20
_OUTPUT_TAIL_BYTES = 2048
_POLL_S = 0.25


OnStart = Callable[[processes.ProcessId], None]


class Interrupted(Exception):
    """The child was killed because its `stop` signal was set."""


class ChildDied(MeasurementFailed):
    """A signal ended the child before it had an answer; `deaths.verdict` says what that means.

    To those who have no use for the difference it is a crash.
    """

    def __init__(self, signal_name: str, details: Mapping[str, Any]) -> None:
        super().__init__("crash", f"the child was ended by {signal_name}", dict(details, signal=signal_name))
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
        """Return the end to write to: whatever is written sets the event."""
        return self._write

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full, hence set
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
) -> Dict[str, Any]:
    """Run one job in `folder` and return the answer that the child left in `job["answer"]`.

    Raises MeasurementFailed with the kind of failure (`timeout` when it took more than `wall_s`
    seconds), ChildDied, StorageFull when the disk had no room for the answer, and Interrupted when
    `stop` was set. When this returns or raises, no process that the child started is left.
    """
    keep = processes.children()
    log_path = os.path.join(folder, "output.log")
    job_path = os.path.join(folder, "job.json")
    with open(job_path, "w") as stream:
        json.dump(dict(job, parent_pid=os.getpid()), stream)
    evidence = _Evidence(job.get("group"))
    try:
        ended = _spawn_and_wait(folder, log_path, wall_s, stop, evidence.of(on_start), python)
    finally:
        processes.sweep(keep)
    answer_path = os.path.join(folder, job["answer"])
    if os.path.exists(answer_path):
        return read_answer(answer_path)  # whatever happened after it was written
    if ended == "stopped":
        raise Interrupted()
    if ended == "timeout":
        raise MeasurementFailed("timeout", f"no result after {wall_s:g} s", _output(log_path))
    raise _death(int(ended), evidence.starved(), _output(log_path))


def read_answer(path: str) -> Dict[str, Any]:
    """Return the answer in a file; MeasurementFailed for a failure or for what is no answer."""
    size = os.path.getsize(path)
    if size > ANSWER_MAX_BYTES:
        raise MeasurementFailed("protocol", f"the child's answer has {size} bytes, at most {ANSWER_MAX_BYTES} are read")
    with open(path, "rb") as stream:
        content = stream.read()
    try:
        answer = parse_json(content)
    except ValueError as error:
        raise MeasurementFailed("protocol", f"the child's answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise MeasurementFailed("protocol", "the child's answer is not an object")
    failure = answer.get("failure")
    if failure is not None:
        raise _told(failure, _output(os.path.join(os.path.dirname(path), "output.log")))
    return answer


def stored_answer(path: str) -> Optional[Dict[str, Any]]:
    """Return the answer that an earlier attempt left in a file; None without one, or when the disk has spoilt it."""
    try:
        return read_answer(path)
    except (OSError, MeasurementFailed):
        return None


def _told(failure: Any, details: Dict[str, Any]) -> MeasurementFailed:
    """A model may write into the answer of its own process, and anything at all."""
    kind, message = (failure.get("kind"), failure.get("message")) if isinstance(failure, dict) else (None, None)
    if kind in FAILURE_KINDS and isinstance(message, str):
        return MeasurementFailed(kind, message, details)
    return MeasurementFailed("protocol", f"the child tells a failure that is none: {failure!r:.200}", details)


def _spawn_and_wait(
    folder: str,
    log_path: str,
    wall_s: float,
    stop: StopSignal,
    on_start: OnStart,
    python: str,
) -> str:
    """Return the child's return code as text, `timeout` or `stopped`."""
    # The child holds the writing end: its end wakes us at once, without polling on its core.
    alive, alive_write = os.pipe()
    try:
        with open(log_path, "wb") as log:
            child = subprocess.Popen(
                [python, "-m", "vitsearch_evaluators.measure.child.main", "job.json"],
                cwd=folder,
                env=_environment(python, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(alive_write,),
            )
    except OSError as error:
        os.close(alive)
        if error.errno in processes.DISK_ERRNOS:
            raise
        raise MeasurementFailed("spawn", f"{python} cannot be started: {error}") from error
    finally:
        os.close(alive_write)
    try:
        identity = processes.identify(child.pid)
        if identity is not None:
            on_start(identity)
        return _wait(child, alive, wall_s, stop)
    finally:
        processes.kill_group(child.pid)
        child.wait()
        os.close(alive)


def _wait(child: "subprocess.Popen[bytes]", alive: int, wall_s: float, stop: StopSignal) -> str:
    end = time.monotonic() + wall_s
    watched = [alive, stop.fileno()]
    while True:
        if child.poll() is not None:
            return str(child.returncode)
        left = end - time.monotonic()
        if left <= 0:
            return "timeout"
        # The poll is needed: a process that the model forked may hold the pipe open for ever.
        ready = select.select(watched, [], [], min(left, _POLL_S))[0]
        if stop.fileno() in ready:
            return "stopped"
        if alive in ready:
            watched = [stop.fileno()]
            # It ends now, or it closed the pipe itself and lives on.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=min(left, 1.0))


def _environment(python: str, folder: str) -> Dict[str, str]:
    """Return what a runtime needs to find its libraries, and this package, and nothing that may be secret."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    for name, value in os.environ.items():
        if name.startswith(("CUDA_", "NVIDIA_", "LC_")):
            environment[name] = value
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    # Newer builds keep a database in the user's home and a thread that sends it away, beside what is measured.
    environment["ORT_DISABLE_TELEMETRY"] = "1"
    if python == sys.executable:
        return processes.with_package_path(environment)
    return processes.with_package_path(environment, os.path.join(folder, "package"))


class _Evidence:
    """Of a shortage of memory during the life of a child."""

    def __init__(self, group: Optional[str]) -> None:
        self._since_s = time.monotonic()
        self._group = MemoryLimit(group=group)
        self._kills = self._count()
        self._pid = 0

    def of(self, on_start: Optional[OnStart]) -> OnStart:
        """Return `on_start` that also tells us which child it is."""

        def started(process: processes.ProcessId) -> None:
            self._pid = process.pid
            if on_start is not None:
                on_start(process)

        return started

    def starved(self) -> bool:
        kills = self._count()
        if kills is not None and self._kills is not None:
            return kills > self._kills
        return processes.kernel_killed(self._pid, self._since_s)

    def _count(self) -> Optional[int]:
        in_group = self._group.kills()
        return processes.out_of_memory_kills() if in_group is None else in_group


def _death(returncode: int, starved: bool, details: Dict[str, Any]) -> EvaluatorError:
    if returncode == processes.NO_ROOM:
        return StorageFull("the disk has no room for what the child wrote")
    if returncode == 0:
        return MeasurementFailed("protocol", "the child ended without an answer", details)
    if returncode > 0:
        return MeasurementFailed("crash", f"the child ended with exit code {returncode}", details)
    number = -returncode
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL and starved:
        return MeasurementFailed("out_of_memory", "the kernel killed it for memory", dict(details, signal=name))
    return ChildDied(name, details)


def _output(log_path: str) -> Dict[str, Any]:
    try:
        with open(log_path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _OUTPUT_TAIL_BYTES))
            tail = stream.read().decode("utf-8", "replace")
    except OSError:
        return {}
    return {"output_tail": tail} if tail else {}
