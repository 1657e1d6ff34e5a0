"""What a model that runs code of its own may try on the agent, its warm parents and what comes after it.

Each attack gets a `Target` and returns whether it reached something. It uses raw system calls where Python has none. A
crash of the calling process counts as not reached: `_in_a_fork`.
"""

import ctypes
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
from collections import namedtuple

Target = namedtuple("Target", "victims state token")

_IS_X86 = platform.machine() == "x86_64"
_TABLE = """
prlimit64 302 261  setpriority 141 140  sched_setscheduler 144 119  sched_setparam 142 118  sched_setattr 314 274
sched_setaffinity 203 122  ioprio_set 251 30  fchmodat2 452 452  utimensat 280 88  shmget 29 194  shmctl 31 195
semget 64 190  semctl 66 191  msgget 68 186  msgctl 71 187  mq_open 240 180  mq_unlink 241 181  add_key 248 217
keyctl 250 219  ptrace 101 117  process_vm_readv 310 270  pidfd_open 434 434  pidfd_getfd 438 438  kcmp 312 272
pidfd_send_signal 424 424  tgkill 234 131  rt_sigqueueinfo 129 138  io_uring_setup 425 425  bpf 321 280
userfaultfd 323 282  perf_event_open 298 241  unshare 272 97  setns 308 268  mount 165 40  personality 135 92
migrate_pages 256 238  clone 56 220
"""
_WORDS = _TABLE.split()
_CALLS = {name: int(number) for name, number in zip(_WORDS[::3], _WORDS[1 if _IS_X86 else 2 :: 3])}  # noqa: B905
_LIBRARY = ctypes.CDLL(None, use_errno=True)
_LIBRARY.syscall.restype = ctypes.c_long
_LIMITS = {"cpu": 0, "file_size": 1, "processes": 6, "open_files": 7, "addresses": 9}


def _call(name, *arguments):
    """The result of a system call, -1 where it fails."""
    number = _CALLS[name] if isinstance(name, str) else name
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _LIBRARY.syscall(ctypes.c_long(number), *wide)


def _works(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return False
    return True


def victims(agent):
    """The agent, and its children but the one that is measured."""
    pids = [agent]
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/" + name + "/stat") as stream:
                parent = int(stream.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == agent and int(name) != os.getpid():
            pids.append(int(name))
    return pids


def _threads(target):
    """Those that are older than this process: a filter cannot tell its own threads from others that started later."""
    tasks = [int(task) for pid in target.victims for task in os.listdir(f"/proc/{pid}/task")]
    return [task for task in tasks if task < os.getpid()]


def _on_each(target, attack):
    return any(attack(pid) for pid in target.victims)


def _on_threads(target, attack):
    return any(attack(task) for task in _threads(target))


def _limit(resource):
    values = struct.pack("QQ", 4, 4)
    return lambda target: _on_each(target, lambda pid: _call("prlimit64", pid, resource, values, None) == 0)


def _limit_of_a_thread(target):
    values = struct.pack("QQ", 4, 4)
    return _on_threads(target, lambda task: _call("prlimit64", task, 7, values, None) == 0)


def _limit_with_high_bits(target):
    """The kernel reads the lower half of the argument only."""
    values = struct.pack("QQ", 4, 4)
    return _on_each(target, lambda pid: _call("prlimit64", pid | 1 << 32, 7, values, None) == 0)


def _limit_in_another_abi(target):
    values = struct.pack("QQ", 4, 4)
    return _IS_X86 and _on_each(target, lambda pid: _call(0x40000000 | 302, pid, 7, values, None) == 0)


def _limit_by_32_bits(target):
    """prlimit64 of i386 (340) by `int 0x80`, with a structure below 4 GB."""
    if not _IS_X86:
        return False
    map_32bit = 0x40
    _LIBRARY.mmap.restype = ctypes.c_void_p
    place = _LIBRARY.mmap(None, ctypes.c_size_t(4096), 7, 0x22 | map_32bit, -1, ctypes.c_long(0))
    if place is None or place >= 1 << 32:
        return False
    ctypes.memmove(place, struct.pack("QQ", 4, 4), 16)

    def attack(pid):
        code = b"\x53\xb8" + struct.pack("<i", 340) + b"\xbb" + struct.pack("<i", pid) + b"\xb9" + struct.pack("<i", 7)
        code += b"\xba" + struct.pack("<I", place) + b"\x31\xf6\xcd\x80\x5b\xc3"
        ctypes.memmove(place + 64, code, len(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(place + 64)() == 0

    return _in_a_fork(lambda: _on_each(target, attack))


def _limit_from_a_thread(target):
    reached = []
    thread = threading.Thread(target=lambda: reached.append(_limit(7)(target)))
    thread.start()
    thread.join()
    return reached != [False]


def _limit_from_a_program(target):
    """What a program that the model starts may do."""
    text = "import resource, sys; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_NOFILE, (4, 4))"
    return _on_each(
        target,
        lambda pid: subprocess.call([sys.executable, "-c", text, str(pid)], stderr=subprocess.DEVNULL) == 0,
    )


def _limit_from_a_fork(target):
    return _in_a_fork(lambda: _limit(7)(target))


def _in_a_fork(attack):
    pid = os.fork()
    if pid == 0:
        os._exit(10 if attack() else 0)
    return os.waitpid(pid, 0)[1] == 10 << 8


def _nice(target):
    return _on_threads(target, lambda task: _call("setpriority", 0, task, 19) == 0)


def _nice_of_groups(target):
    return _on_each(target, lambda pid: _call("setpriority", 1, os.getpgid(pid), 19) == 0)


def _nice_of_the_user(target):
    return os.getuid() != 0 and _call("setpriority", 2, os.getuid(), 19) == 0


def _idle(target):
    return _on_threads(target, lambda task: _call("sched_setscheduler", task, 5, struct.pack("i", 0)) == 0)


def _parameters(target):
    return _on_threads(target, lambda task: _call("sched_setparam", task, struct.pack("i", 0)) == 0)


def _attributes_of_the_scheduler(target):
    attributes = struct.pack("IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0)
    return _on_threads(target, lambda task: _call("sched_setattr", task, attributes, 0) == 0)


def _processors(target):
    return _on_threads(target, lambda task: _call("sched_setaffinity", task, 8, struct.pack("Q", 1)) == 0)


def _io_priority(target):
    return _on_threads(target, lambda task: _call("ioprio_set", 1, task, 3 << 13) == 0)


def _io_priority_of_the_user(target):
    return os.getuid() != 0 and _call("ioprio_set", 3, os.getuid(), 3 << 13) == 0


def _pages(target):
    nodes = struct.pack("Q", 1)
    return _on_each(target, lambda pid: _call("migrate_pages", pid, 64, nodes, nodes) == 0)


def _through_a_folder(target, call):
    """What a descriptor of the state folder allows, which can be opened to list what is in it."""
    try:
        folder = os.open(target.state, os.O_RDONLY)
    except OSError:
        return False
    try:
        return call(folder)
    finally:
        os.close(folder)


def _permissions(folder):
    return _works(os.fchmod, folder, 0o777)


def _flags(folder):
    import fcntl

    return _works(fcntl.ioctl, folder, 0x40086602, struct.pack("l", 0x40))


def _set_owner(target):
    import fcntl

    read, write = os.pipe()
    return _on_each(target, lambda pid: _works(fcntl.fcntl, read, fcntl.F_SETOWN, pid))


def _shared_memory(_target):
    number = _call("shmget", 0x5EC0, 4096, 0o1666)
    return number >= 0


def _semaphores(_target):
    return _call("semget", 0x5EC0, 1, 0o1666) >= 0


def _messages(_target):
    return _call("msgget", 0x5EC0, 0o1666) >= 0


def _message_queue(_target):
    return _call("mq_open", b"vitsearch-attack", os.O_CREAT | os.O_RDWR, 0o666, None) >= 0


def _key(_target):
    return _call("add_key", b"user", b"vitsearch-attack", b"x", 1, -4) >= 0  # the user's own keyring


def _trace(target):
    return _on_each(target, lambda pid: _call("ptrace", 0x4206, pid, 0, 0) == 0)  # PTRACE_SEIZE


def _read_memory(target):
    return _on_each(target, lambda pid: _works(open, f"/proc/{pid}/mem", "rb"))


def _read_memory_by_call(target):
    local = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(local), 8)
    remote = struct.pack("PN", id(target), 8)
    return _on_each(target, lambda pid: _call("process_vm_readv", pid, vector, 1, remote, 1, 0) >= 0)


def _descriptor_of(target):
    def attack(pid):
        opened = _call("pidfd_open", pid, 0)
        return opened >= 0 and _call("pidfd_getfd", opened, 0, 0) >= 0

    return _on_each(target, attack)


def _signal(target):
    return _on_each(target, lambda pid: _works(os.kill, pid, signal.SIGKILL))


def _signal_a_thread(target):
    return _on_each(target, lambda pid: _call("tgkill", pid, pid, 9) == 0)


def _signal_by_descriptor(target):
    return _on_each(target, lambda pid: _call("pidfd_send_signal", _call("pidfd_open", pid, 0), 9, None, 0) == 0)


def _count_of(target):
    attributes = struct.pack("=IIQQQQQIIQ", 1, 64, 0, 0, 0, 0, 0, 0, 0, 0)
    return _on_each(target, lambda pid: _call("perf_event_open", attributes, pid, -1, -1, 0) >= 0)


def _namespace_of(target):
    def attack(pid):
        try:
            opened = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        except OSError:
            return False
        return _call("setns", opened, 0) == 0

    return _on_each(target, attack)


def _hide_memory(_target):
    return _works(_write, "/proc/self/clear_refs", "5")


def _not_killed_first(target):
    victims = [f"/proc/{pid}/oom_score_adj" for pid in target.victims]
    return any(_works(_write, path, "500") for path in ["/proc/self/oom_score_adj", *victims])


def _write(path, text):
    with open(path, "w") as stream:
        stream.write(text)


def _link(target):
    return _works(os.link, target.token, "token")


def _read_through_a_link(target):
    os.symlink(target.token, "link")
    return _works(open, "link", "rb")


def _change_itself(_target):
    """What it may do, and what must end with it."""
    import resource

    os.umask(0)
    os.nice(10)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _LIBRARY.prctl(4, 0, 0, 0, 0)  # not dumpable
    return False


def _leave_processes(_target):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            signal.pause()
    return False


def _call_of(name, *arguments):
    return lambda _target: _call(name, *arguments) >= 0


def _on_paths(function, *arguments):
    return lambda target: any(_works(function, path, *arguments) for path in (target.token, target.state))


ATTACKS = {
    "limit_cpu": _limit(_LIMITS["cpu"]),
    "limit_file_size": _limit(_LIMITS["file_size"]),
    "limit_processes": _limit(_LIMITS["processes"]),
    "limit_open_files": _limit(_LIMITS["open_files"]),
    "limit_addresses": _limit(_LIMITS["addresses"]),
    "limit_of_a_thread": _limit_of_a_thread,
    "limit_with_high_bits": _limit_with_high_bits,
    "limit_in_another_abi": _limit_in_another_abi,
    "limit_by_32_bits": _limit_by_32_bits,
    "limit_from_a_thread": _limit_from_a_thread,
    "limit_from_a_program": _limit_from_a_program,
    "limit_from_a_fork": _limit_from_a_fork,
    "nice": _nice,
    "nice_of_groups": _nice_of_groups,
    "nice_of_the_user": _nice_of_the_user,
    "idle": _idle,
    "parameters": _parameters,
    "attributes_of_the_scheduler": _attributes_of_the_scheduler,
    "processors": _processors,
    "io_priority": _io_priority,
    "io_priority_of_the_user": _io_priority_of_the_user,
    "pages": _pages,
    "permissions": _on_paths(os.chmod, 0o777),
    "permissions_at": lambda target: _call("fchmodat2", -100, os.fsencode(target.token), 0o777, 0) == 0,
    "permissions_of_a_folder": lambda target: _through_a_folder(
        target, lambda folder: _works(os.fchmod, folder, 0o777)
    ),
    "flags_of_a_folder": lambda target: _through_a_folder(target, _flags),
    "owner": _on_paths(os.chown, os.getuid(), os.getgid()),
    "times": _on_paths(os.utime, (0, 0)),
    "attributes": _on_paths(os.setxattr, "user.attack", b"x"),
    "truncate": lambda target: _works(os.truncate, target.token, 0),
    "shared_memory": _shared_memory,
    "semaphores": _semaphores,
    "messages": _messages,
    "message_queue": _message_queue,
    "key": _key,
    "trace": _trace,
    "read_memory": _read_memory,
    "read_memory_by_call": _read_memory_by_call,
    "descriptor": _descriptor_of,
    "signal": _signal,
    "signal_a_thread": _signal_a_thread,
    "signal_by_descriptor": _signal_by_descriptor,
    "signals_of_a_file": _set_owner,
    "count": _count_of,
    "ring": _call_of("io_uring_setup", 4, bytes(120)),
    "faults": _call_of("userfaultfd", 1),
    "user_namespace": _call_of("unshare", 0x10000000),
    "namespace": _namespace_of,
    "personality": _call_of("personality", 0x0040000),
    "hide_memory": _hide_memory,
    "not_killed_first": _not_killed_first,
    "read_token": lambda target: _works(open, target.token, "rb"),
    "link_token": _link,
    "link_to_token": _read_through_a_link,
    "change_itself": _change_itself,
    "leave_processes": _leave_processes,
}
"""By their names."""
