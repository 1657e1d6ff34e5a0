"""How a Linux process gives up system calls for good: a seccomp filter, which the processes that it starts inherit.

Landlock denies files. It has no rule for permissions, times and attributes of a file, for limits and priorities of
another process, nor for what outlives a process without a file, such as shared memory of System V. This filter refuses
the calls themselves, for every user alike, and needs no right.

A filter sees the numbers in a call's arguments, not what a pointer leads to: it compares the pid of a call with 0 and
with that of this process. Runtimes bind their threads to processors by the threads' own numbers, which nobody knows
before: `sched_setaffinity` is allowed for these, and so for all that start later than this process.

Sources: the kernel's Documentation/userspace-api/seccomp_filter.rst, seccomp(2), and the tables of system calls
(arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
"""

import ctypes
import errno
import os
import struct
from typing import Dict, List, NamedTuple, Sequence

from vitsearch_agent.base.sandbox import system_call


class _Processor(NamedTuple):
    """`audit` is the kernel's name of its system calls, `column` their place in the tables below."""

    audit: int
    column: int


_PROCESSORS = {"x86_64": _Processor(0xC000003E, 0), "aarch64": _Processor(0xC00000B7, 1)}
_SECCOMP = (317, 277)
_SET_MODE_FILTER, _SPECULATION_ALLOWED = 1, 1 << 2

_REFUSED = {
    errno.EPERM: """
    chmod 90 -  fchmod 91 52  fchmodat 268 53  fchmodat2 452 452  chown 92 -  fchown 93 55  lchown 94 -
    fchownat 260 54  utime 132 -  utimes 235 -  utimensat 280 88  futimesat 261 -  truncate 76 45
    setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7  setxattrat 463 463
    removexattr 197 14  lremovexattr 198 15  fremovexattr 199 16  removexattrat 466 466  file_setattr 469 469

    ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  process_madvise 440 440
    process_mrelease 448 448  pidfd_getfd 438 438  kcmp 312 272  bpf 321 280

    unshare 272 97  setns 308 268  chroot 161 51  pivot_root 155 41  mount 165 40  umount2 166 39
    open_tree 428 428  move_mount 429 429  fsopen 430 430  fsconfig 431 431  fsmount 432 432  fspick 433 433
    mount_setattr 442 442  open_tree_attr 467 467  open_by_handle_at 304 265

    acct 163 89  adjtimex 159 171  clock_adjtime 305 266  clock_settime 227 112  settimeofday 164 170
    init_module 175 105  finit_module 313 273  delete_module 176 106  kexec_load 246 104  kexec_file_load 320 294
    reboot 169 142  sethostname 170 161  setdomainname 171 162  swapon 167 224  swapoff 168 225  quotactl 179 60
    quotactl_fd 443 443  syslog 103 116  vhangup 153 58  ioperm 173 -  iopl 172 -
    """,
    # What a kernel may be built without: libraries do without it too.
    errno.ENOSYS: """
    shmget 29 194  shmat 30 196  shmctl 31 195  shmdt 67 197  semget 64 190  semop 65 193  semtimedop 220 192
    semctl 66 191  msgget 68 186  msgsnd 69 189  msgrcv 70 188  msgctl 71 187
    mq_open 240 180  mq_unlink 241 181  mq_timedsend 242 182  mq_timedreceive 243 183  mq_notify 244 184
    mq_getsetattr 245 185  add_key 248 217  request_key 249 218  keyctl 250 219
    io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427  userfaultfd 323 282
    clone3 435 435
    """,
}
"""System calls with their numbers on x86-64 and aarch64 (-: it has none). `clone3`, whose flags are behind a pointer,
is tried first by some libraries, which then use `clone`."""

_JUDGED = """
    prlimit64 302 261  setpriority 141 140  ioprio_set 251 30  sched_setscheduler 144 119  sched_setparam 142 118
    sched_setattr 314 274  sched_setaffinity 203 122  migrate_pages 256 238  move_pages 279 239
    perf_event_open 298 241  personality 135 92  clone 56 220  fcntl 72 25  ioctl 16 29
    kill 62 129  tkill 200 130  tgkill 234 131  rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240
    pidfd_send_signal 424 424
"""
"""System calls that are refused depending on their arguments (`_judgements`)."""

_PRIO_PROCESS, _IOPRIO_WHO_PROCESS = 0, 1
_PERSONALITY_ASKED = 0xFFFFFFFF
_NEW_NAMESPACES = 0x7E020000
_F_SETOWN, _F_SETOWN_EX = 8, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_ATTRIBUTES = (0x40086602, 0x40046602, 0x401C5820, 0x40806685, 0x800C6613)
"""FS_IOC_SETFLAGS (and of 32 bits), FS_IOC_FSSETXATTR, FS_IOC_ENABLE_VERITY, FS_IOC_SET_ENCRYPTION_POLICY: they change
a file or a folder that is open for reading."""
_SUBVOLUMES = (0x5000940E, 0x50009401, 0x50009417, 0x50009418)
"""BTRFS_IOC_SUBVOL_CREATE and SNAP_CREATE with their second versions: they make a folder in one that is open."""

_LOAD, _JUMP, _EQUAL, _ABOVE_OR_EQUAL, _HAS_BITS, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_X32 = 0x40000000
_LEAVES = 4


class _Step(NamedTuple):
    """An instruction (struct sock_filter): jumps are counted from the next one."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


_REFUSE = _Step(_RETURN, _ERROR | errno.EPERM)


def refuse_calls(signals: bool) -> None:
    """Refuse the calls by which this process, of one thread, could change another one, a file's permissions or times,
    or leave something behind; OSError with the reason where it cannot.

    It must not gain privileges by exec any more (PR_SET_NO_NEW_PRIVS). `signals` to other processes are refused too:
    those that it starts cannot get any from it either.
    """
    machine = os.uname().machine
    processor = _PROCESSORS.get(machine)
    if processor is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"its system calls are not known for {machine}, {struct.calcsize('P') * 8} bits")
    steps = program(processor, os.getpid(), signals)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *_in_order(step)) for step in steps))
    described = struct.pack("HP", len(steps), ctypes.addressof(code))
    number = _SECCOMP[processor.column]
    try:
        # Without the flag kernels before 5.16 slow down every load that follows a store (the defence against
        # Spectre 4): the model would be measured on another processor than its users have.
        system_call(number, _SET_MODE_FILTER, _SPECULATION_ALLOWED, described)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        system_call(number, _SET_MODE_FILTER, 0, described)  # before Linux 4.17


def _in_order(step: _Step) -> Sequence[int]:
    return step.code, step.if_true, step.if_false, step.value


def program(processor: _Processor, own_pid: int, signals: bool) -> List[_Step]:
    """Return the filter of a process: its number decides in a tree, because old kernels run it for each call."""
    blocks = {
        number: [_Step(_RETURN, _ERROR | code)]
        for code, names in _REFUSED.items()
        for number in _numbers(names, processor).values()
    }
    judged = _numbers(_JUDGED, processor)
    for name, steps in _judgements(own_pid, signals).items():
        blocks[judged[name]] = [*steps, _Step(_RETURN, _ALLOW)]
    return [
        _Step(_LOAD, _ARCHITECTURE),
        _Step(_EQUAL, processor.audit, if_true=1),
        _Step(_RETURN, _KILL),  # a program of another processor's, whose numbers mean other calls
        _Step(_LOAD, _NUMBER),
        _Step(_ABOVE_OR_EQUAL, _X32, if_false=1),
        _Step(_RETURN, _ERROR | errno.ENOSYS),
        *_tree(blocks, sorted(blocks)),
    ]


def _judgements(own: int, signals: bool) -> Dict[str, List[_Step]]:
    """Return what is refused of a call, by its name."""
    own_or_0 = (0, own)
    judgements = {
        "prlimit64": _only(0, own_or_0),
        "setpriority": _only(0, (_PRIO_PROCESS,)) + _only(1, own_or_0),
        "ioprio_set": _only(0, (_IOPRIO_WHO_PROCESS,)) + _only(1, own_or_0),
        "perf_event_open": _only(1, own_or_0) + _only(2, (0xFFFFFFFF,)),  # this process, on any processor
        "personality": _only(0, (0, _PERSONALITY_ASKED)),
        "clone": [_argument(0), _Step(_HAS_BITS, _NEW_NAMESPACES, if_false=1), _REFUSE],
        "fcntl": _never(1, (_F_SETOWN, _F_SETOWN_EX)),  # the signals of a file go to another process
        "ioctl": _never(1, (_FIOSETOWN, _SIOCSPGRP, *_ATTRIBUTES, *_SUBVOLUMES)),
        "sched_setaffinity": [
            _argument(0),
            _Step(_EQUAL, 0, if_true=2),
            _Step(_ABOVE_OR_EQUAL, own, if_true=1),
            _REFUSE,
        ],
    }
    for name in ("sched_setscheduler", "sched_setparam", "sched_setattr", "migrate_pages", "move_pages"):
        judgements[name] = _only(0, own_or_0)
    if signals:
        judgements["kill"] = _only(0, (*own_or_0, -own & 0xFFFFFFFF))  # and its own group
        for name in ("tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            judgements[name] = _only(0, (own,))
        judgements["pidfd_send_signal"] = [_REFUSE]
    return judgements


def _argument(index: int) -> _Step:
    """Load the lower half of an argument, which is all of an int."""
    return _Step(_LOAD, _ARGUMENTS + 8 * index)


def _only(index: int, values: Sequence[int]) -> List[_Step]:
    """Refuse a call unless an argument is one of these values."""
    compared = [_Step(_EQUAL, value, if_true=len(values) - position) for position, value in enumerate(values)]
    return [_argument(index), *compared, _REFUSE]


def _never(index: int, values: Sequence[int]) -> List[_Step]:
    """Refuse a call if an argument is one of these values."""
    compared = [_Step(_EQUAL, value, if_true=len(values) - position) for position, value in enumerate(values)]
    return [_argument(index), *compared, _Step(_JUMP, 1), _REFUSE]


def _numbers(table: str, processor: _Processor) -> Dict[str, int]:
    words = table.split()
    numbers = zip(words[::3], words[1 + processor.column :: 3])
    return {name: int(number) for name, number in numbers if number != "-"}


def _tree(blocks: Dict[int, List[_Step]], numbers: Sequence[int]) -> List[_Step]:
    """Return the steps that find the block of a number; a call without one is allowed."""
    if len(numbers) <= _LEAVES:
        steps: List[_Step] = []
        for number in numbers:
            steps += [_Step(_EQUAL, number, if_false=len(blocks[number])), *blocks[number]]
        return [*steps, _Step(_RETURN, _ALLOW)]
    middle = len(numbers) // 2
    below, above = _tree(blocks, numbers[:middle]), _tree(blocks, numbers[middle:])
    return [_Step(_ABOVE_OR_EQUAL, numbers[middle], if_false=1), _Step(_JUMP, len(below)), *below, *above]
