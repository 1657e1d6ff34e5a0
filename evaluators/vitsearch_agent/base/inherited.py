"""What a thread of Linux passes on to the processes that it starts or forks: limits, priorities, processors, signals.

Who could change it in the agent, or in a parent of measuring processes, would decide later results. So it is read when
either is ready, and compared before each child. Other systems have nothing of it.
"""

import contextlib
import ctypes
import os
import sys
from typing import Dict, List, NamedTuple, Tuple

from vitsearch_agent.errors import AgentError

_LIMITS = range(16)
_PR_GET_DUMPABLE = 3
_IOPRIO = {"x86_64": (251, 252), "aarch64": (30, 31)}
"""The numbers of ioprio_set and ioprio_get."""
_IOPRIO_WHO_PROCESS = 1
_OF_STATUS = ("Umask", "SigBlk", "SigIgn", "SigCgt")


class Inherited(NamedTuple):
    """`limits` are pairs of soft and hard ones by their numbers, `policy` that of the scheduler with its priority.

    `own` is what only the process itself can change: signals, umask, dumpable and the wish to be killed for memory.
    """

    limits: Tuple[Tuple[int, int], ...] = ()
    nice: int = 0
    policy: Tuple[int, int] = (0, 0)
    processors: Tuple[int, ...] = ()
    io_priority: int = 0
    own: Tuple[str, ...] = ()


def read() -> Inherited:
    """Return what the calling thread passes on."""
    if not sys.platform.startswith("linux"):
        return Inherited()
    import resource

    library = ctypes.CDLL(None)
    numbers = _IOPRIO.get(os.uname().machine)
    own = [line for line in _text("/proc/thread-self/status").splitlines() if line.startswith(_OF_STATUS)]
    return Inherited(
        limits=tuple(resource.getrlimit(limit) for limit in _LIMITS),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        policy=(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
        processors=tuple(sorted(os.sched_getaffinity(0))),
        io_priority=0 if numbers is None else library.syscall(numbers[1], _IOPRIO_WHO_PROCESS, 0),
        own=(*own, _text("/proc/self/oom_score_adj"), str(library.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))),
    )


def restore(wanted: Inherited) -> List[str]:
    """Give the calling thread back what another process has changed, and return what that was, in words.

    Raises AgentError for what this user cannot restore, such as a higher priority.
    """
    changed = _differences(wanted, read())
    if not changed:
        return []
    import resource

    for limit, values in zip(_LIMITS, wanted.limits):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, values)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, wanted.policy[0], os.sched_param(wanted.policy[1]))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, wanted.nice)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, wanted.processors)
    numbers = _IOPRIO.get(os.uname().machine)
    if numbers is not None:
        ctypes.CDLL(None).syscall(numbers[0], _IOPRIO_WHO_PROCESS, 0, wanted.io_priority)
    left = _differences(wanted, read())
    if left:
        raise AgentError(
            "agent_changed",
            f"another process of this user has changed the agent since its start ({'; '.join(left)}), and it cannot "
            "change it back: start the agent again",
        )
    return changed


def _differences(wanted: Inherited, actual: Inherited) -> List[str]:
    """Return what another process could change and has, in words."""
    limits = zip(_LIMITS, wanted.limits, actual.limits)
    words = [f"limit {limit} from {before} to {after}" for limit, before, after in limits if before != after]
    fields: Dict[str, Tuple[object, object]] = {
        "nice value": (wanted.nice, actual.nice),
        "scheduling policy": (wanted.policy, actual.policy),
        "processors": (wanted.processors, actual.processors),
        "I/O priority": (wanted.io_priority, actual.io_priority),
    }
    return words + [f"{name} from {before} to {after}" for name, (before, after) in fields.items() if before != after]


def _text(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.read().strip()
    except OSError:
        return ""
