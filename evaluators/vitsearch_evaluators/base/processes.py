"""Linux processes: who is whose child, who is still the same, who must die with whom.

On other systems the calls do nothing: the agent works there, but cleans up less.
"""

import contextlib
import ctypes
import errno
import gc
import os
import signal
import sys
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_SWEEP_S = 5.0
_LOG_CLOCK_S = 60.0

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
NO_ROOM = 75
"""The exit code of a child whose answer the disk did not take (EX_TEMPFAIL of sysexits.h)."""


class ProcessId(NamedTuple):
    """A process for certain: pids are used again, these three together are not."""

    pid: int
    start_ticks: int
    boot_id: str


def die_with_parent(parent_pid: int) -> bool:
    """Ask the kernel to kill this process when the thread that started it ends.

    Returns False when the parent is gone already (it died before the request was made).
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that `sweep` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_memory_small() -> None:
    """Let all threads allocate from one heap (glibc gives each its own), and give back what they free."""
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        # Otherwise the first large buffer (a chunk of an upload) makes glibc keep what is freed.
        library.mallopt(_M_MMAP_THRESHOLD, 128 << 10)
        library.mallopt(_M_TRIM_THRESHOLD, 128 << 10)


def give_memory_back() -> None:
    """Return to the system what nobody holds any more, when there is nothing else to do."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def forbid_new_privileges() -> None:
    """Have no program that this process starts gain rights, as by setuid."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def boot_id() -> str:
    """Return a name of this boot, "unknown" where the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return "unknown"


def identify(pid: int) -> Optional[ProcessId]:
    """Return the identity of a running process; None when it is gone or a zombie."""
    fields = _stat(pid)
    # A zombie keeps its start time, for ever where nobody reaps it: it is gone all the same.
    if fields is None or fields[0] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[19]), boot_id())


def kill_if_same(process: ProcessId) -> bool:
    """Kill a process of an earlier life of the agent; False when that pid is somebody else's."""
    if identify(process.pid) != process:
        return False
    kill_group(process.pid)
    return True


def kill_group(pid: int) -> None:
    """Kill a process and its group; it need not exist."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def children() -> Set[int]:
    """Return the pids of this process' children, zombies included."""
    found = set()
    own = str(os.getpid())
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    for name in names:
        if name.isdigit():
            fields = _stat(int(name))
            if fields is not None and fields[1] == own:
                found.add(int(name))
    return found


def sweep(keep: Set[int]) -> int:
    """Kill and reap every child that is not in `keep`; return how many there were.

    A model may fork and leave its session. When its parent is dead such a process is ours
    (`adopt_orphans`), and killing it may hand us its own children: hence the loop.
    """
    swept: Set[int] = set()
    end = time.monotonic() + _SWEEP_S
    while time.monotonic() < end:
        strays = children() - keep
        if not strays:
            break
        swept |= strays
        for pid in strays:
            kill_group(pid)
        for pid in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)
    return len(swept)


def out_of_memory_kills() -> Optional[int]:
    """Return how many processes the kernel killed for memory since boot; None when not counted."""
    try:
        with open("/proc/vmstat") as stream:
            for line in stream:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def kernel_killed(pid: int, since_s: float) -> bool:
    """Whether the kernel's log says that it killed this process for want of memory, since a monotonic time.

    For kernels that do not count such kills (before 4.13: JetPack 4), where everybody may read the log.
    """
    sentence = f"Killed process {pid} ".encode()
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return any(sentence in record and _logged_s(record) >= since_s - _LOG_CLOCK_S for record in _records(log))
    finally:
        os.close(log)


def _logged_s(record: bytes) -> float:
    """The third field of `6,1234,5678901,-;text` are microseconds since the boot, by a clock of its own."""
    fields = record.split(b";", 1)[0].split(b",")
    return int(fields[2]) / 1e6 if len(fields) > 2 and fields[2].isdigit() else 0.0


def _records(log: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(log, 8192)
        except BrokenPipeError:  # this record was overwritten meanwhile
            continue
        except OSError:  # no more
            return


def package_folder() -> str:
    """Return the folder of this package, or its name inside a .pyz."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def with_package_path(environment: Dict[str, str], alone_in: Optional[str] = None) -> Dict[str, str]:
    """Let a Python started with this environment import this package, from wherever we run (a .pyz too).

    Installed, it is found anyway by the same Python, and putting site-packages first would shadow the
    standard library. Another Python must not see what lies beside it there, which is not built for it:
    it gets the folder `alone_in`, with nothing but a link to the package.
    """
    package = package_folder()
    home = os.path.dirname(package)
    if os.path.basename(home) in ("site-packages", "dist-packages"):
        if alone_in is None:
            return environment
        home = alone_in
        os.makedirs(home, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(package, os.path.join(home, os.path.basename(package)))
    paths = [home] + [path for path in [environment.get("PYTHONPATH")] if path]
    return dict(environment, PYTHONPATH=os.pathsep.join(paths))


def _stat(pid: int) -> Optional[List[str]]:
    """Return the fields of /proc/PID/stat from the third (state) on."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            # The second field is the name in brackets, which may hold spaces and brackets.
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return None


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
