"""Linux processes: find children, recognise a process again, end processes together with their parent.

On other systems the calls do nothing: the agent works there, but leaves more behind after a crash.
"""

import contextlib
import ctypes
import errno
import functools
import gc
import os
import signal
import sys
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Set

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_SWEEP_S = 5.0
_LOG_CLOCK_S = 60.0

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
NO_ROOM = 75
"""Exit code of a child that could not write its answer because the disk is full (EX_TEMPFAIL of sysexits.h)."""


class ProcessId(NamedTuple):
    """The identity of a process: a pid is used again, but these three together are not."""

    pid: int
    start_ticks: int
    boot_id: str


def die_with_parent(parent_pid: int) -> bool:
    """Ask the kernel to kill this process when the thread that started it ends.

    Return False if the parent ended before the request was made.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def killed_with_parent() -> Optional[Callable[[], None]]:
    """Return the `preexec_fn` of a process that the kernel kills when the thread that starts it ends.

    It is None on other systems than Linux. The C library is found here, because a forked process should not load one.
    """
    if not adopts_orphans():
        return None
    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that `sweep` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def adopts_orphans() -> bool:
    """Whether `adopt_orphans` does something on this system."""
    return sys.platform.startswith("linux")


def keep_memory_small() -> None:
    """Let all threads allocate from one heap (glibc gives each its own), and return freed memory to the system."""
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        # Otherwise glibc keeps freed memory after the first large buffer (a chunk of an upload).
        library.mallopt(_M_MMAP_THRESHOLD, 128 << 10)
        library.mallopt(_M_TRIM_THRESHOLD, 128 << 10)


def give_memory_back() -> None:
    """Return unused memory to the system; for a time when nothing else is to do."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def forbid_new_privileges() -> None:
    """Prevent this process and the programs that it starts from gaining privileges, for example by setuid."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def threads() -> int:
    """Return the number of this process' threads, those of libraries too; 1 on a system that does not say."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def boot_id() -> str:
    """Return the kernel's id of this boot, "unknown" if the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return "unknown"


def identify(pid: int) -> Optional[ProcessId]:
    """Return the identity of a running process; None if it has ended or is a zombie."""
    fields = _stat(pid)
    # A zombie keeps its start time until it is reaped, which may never happen; count it as ended.
    if fields is None or fields[0] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[19]), boot_id())


def kill_if_same(process: ProcessId) -> bool:
    """Kill a process that an earlier agent started; False if its pid now belongs to another process."""
    if identify(process.pid) != process:
        return False
    kill_group(process.pid)
    return True


def kill_group(pid: int) -> None:
    """Kill a process and its group, if they exist."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def children() -> Set[int]:
    """Return the pids of this process' children, including zombies."""
    pids = set()
    own = str(os.getpid())
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    for name in names:
        if name.isdigit():
            fields = _stat(int(name))
            if fields is not None and fields[1] == own:
                pids.add(int(name))
    return pids


def sweep(keep: Set[int]) -> int:
    """Kill and reap every child that is not in `keep`; return how many there were.

    A model may fork and leave its session. When its parent has ended, such a process becomes our child
    (`adopt_orphans`), and when we kill it, its own children do: hence the loop.
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
    """Return how many processes the kernel killed for lack of memory since boot; None if it does not count them."""
    try:
        with open("/proc/vmstat") as stream:
            for line in stream:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def kernel_killed(pid: int, since_s: float) -> bool:
    """Whether the kernel's log has a line, since a monotonic time, that it killed this process for lack of memory.

    For kernels that do not count such kills (before 4.13: JetPack 4); there every user may read the log.
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
    """Return seconds since boot: the third field of `6,1234,5678901,-;text`, in microseconds of the log's own clock."""
    fields = record.split(b";", 1)[0].split(b",")
    return int(fields[2]) / 1e6 if len(fields) > 2 and fields[2].isdigit() else 0.0


def _records(log: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(log, 8192)
        except BrokenPipeError:  # this record was overwritten before we read it
            continue
        except OSError:  # no more records
            return


def package_folder() -> str:
    """Return the folder of this package, or its path inside a .pyz."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def with_package_path(environment: Dict[str, str], alone_in: Optional[str] = None) -> Dict[str, str]:
    """Return the environment for a Python that shall import this package, also from a .pyz.

    If the package is installed, the same Python finds it without help, and site-packages at the front of the path
    would shadow the standard library. Another Python must not see the other packages there, which are not built
    for it: for it, the folder `alone_in` gets a link to this package and nothing else.
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
    """Return the fields of /proc/PID/stat, beginning with the third (state)."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            # The second field is the name in brackets, and it may contain spaces and brackets.
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return None


def _prctl(option: int, value: int) -> None:
    if adopts_orphans():
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
