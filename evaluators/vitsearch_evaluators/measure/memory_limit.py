"""The memory that a measuring child may use, and what enforces it: `limits.memory_mb` of the configuration.

A memory cgroup of its own, below the agent's, counts what is really used, kills what goes beyond and says
that it did (`memory.events`). Where none can be made the child's address space is limited: allocations then
fail, which a runtime reports. That fits runtimes of the processor alone: CUDA reserves far more addresses
than it uses (`Runtime.reserves_addresses`).

    agent.service                  delegated to the agent, no process in it (the kernel's rule in version 2)
      vitsearch-agent              the agent: it goes there itself, or systemd starts it there (DelegateSubgroup)
      vitsearch-measured           one child at a time, with memory.max

systemd removes both when the service ends, so each start finds the service's group as the first did. Version 1
has no such rule, and only root may make groups in it (systemd hands none over), below the one that it is in.

Without `memory_mb` the kernel decides: every child is the first that it takes (`oom_score_adj`).
"""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.errors import InvalidRequest

_GROUP = "vitsearch-measured"
_AGENT = "vitsearch-agent"
_MAPPED = "/proc/self/statm"
MB = 10**6


class MemoryLimit(NamedTuple):
    """`group` is the folder of a cgroup, or None with the `reason` why there is none; without `memory_mb`
    nothing is limited."""

    memory_mb: Optional[int] = None
    group: Optional[str] = None
    reason: Optional[str] = None

    def for_child(self) -> Dict[str, Any]:
        """Return what the child needs to put itself under the limit."""
        return {"memory_mb": self.memory_mb, "group": self.group}

    def describe(self) -> Dict[str, Any]:
        """Return what the fingerprint says of it: under a limit a model may take other paths."""
        by = "cgroup" if self.group is not None else "address space" if self.memory_mb is not None else "nothing"
        return {"memory_mb": self.memory_mb, "by": by, "reason": self.reason}

    def kills(self) -> Optional[int]:
        """Return how many processes the kernel killed in the group so far, None where nobody counts."""
        for name in ("memory.events", "memory.oom_control"):
            for key, value in _pairs(os.path.join(self.group or "/nowhere", name)):
                if key == "oom_kill" and value.isdigit():
                    return int(value)
        return None


NO_MEMORY_LIMIT = MemoryLimit()


def set_up(memory_mb: Optional[int], system: System) -> MemoryLimit:
    """Make a memory cgroup of that size for the children, or say why there is none. It never raises."""
    if memory_mb is None:
        return NO_MEMORY_LIMIT
    own, is_v2 = _own_group(system)
    if own is None:
        return _by_addresses(memory_mb, "there is no memory controller")
    path = system.at(own)
    try:
        group = _make_v2(path, memory_mb) if is_v2 else _make_v1(path, memory_mb)
    except (OSError, InvalidRequest) as error:
        told = getattr(error, "strerror", None) or str(error)
        return _by_addresses(memory_mb, f"no memory cgroup can be made in {own}: {told}")
    return MemoryLimit(memory_mb, group)


def _by_addresses(memory_mb: int, reason: str) -> MemoryLimit:
    if os.path.exists(_MAPPED):
        return MemoryLimit(memory_mb, None, reason)
    return MemoryLimit(None, None, f"{reason}, and no {_MAPPED}")


def join(group: str) -> None:
    """Put this process and what it starts into a group; OSError when it cannot be."""
    _write(os.path.join(group, "cgroup.procs"), os.getpid())


def limit_addresses(memory_mb: int) -> None:
    """Let this process map so much more than it has mapped already: what a runtime needs to be there is not counted."""
    import resource

    with open(_MAPPED) as stream:
        mapped = int(stream.read().split()[0]) * resource.getpagesize()
    limit = mapped + memory_mb * MB
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _own_group(system: System) -> Tuple[Optional[str], bool]:
    """Return the memory cgroup that this process is in, and whether it is of version 2."""
    lines = (system.read("/proc/self/cgroup").text or "").splitlines()
    entries = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for _, controllers, place in entries:
        if "memory" in controllers.split(","):
            return _existing(system, "/sys/fs/cgroup/memory", place), False
    for _, controllers, place in entries:
        if controllers == "":
            return _existing(system, "/sys/fs/cgroup", place), True
    return None, False


def _existing(system: System, root: str, place: str) -> Optional[str]:
    # A container sees its own group as the root, under whatever path it has outside.
    for path in (root + place.rstrip("/"), root):
        if os.path.exists(os.path.join(system.at(path), "cgroup.procs")):
            return path
    return None


def _make_v1(own: str, memory_mb: int) -> str:
    group = os.path.join(own, _GROUP)
    os.makedirs(group, exist_ok=True)
    # Group and group with swap: the second may not be less than the first at any time.
    limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    for name in limits + limits[:1]:
        if os.path.exists(os.path.join(group, name)):
            try:
                _write(os.path.join(group, name), memory_mb * MB)
            except OSError:
                if name != limits[0]:
                    raise
    if _first_number(os.path.join(group, limits[0])) > memory_mb * MB:
        raise InvalidRequest("the limit is not taken")
    return group


def _make_v2(own: str, memory_mb: int) -> str:
    group = group_below(os.path.dirname(own) if os.path.basename(own) == _AGENT else own, "memory")
    _write(os.path.join(group, "memory.max"), memory_mb * MB)
    for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
        if os.path.exists(os.path.join(group, name)):
            _write(os.path.join(group, name), value)
    return group


def group_below(own: str, controller: str) -> str:
    """Make the children's group of version 2, in which a controller works; OSError or InvalidRequest when it cannot."""
    if controller not in _words(os.path.join(own, "cgroup.controllers")):
        raise InvalidRequest(f"the {controller} controller is not delegated (systemd: Delegate={controller})")
    _leave(own)
    if controller not in _words(os.path.join(own, "cgroup.subtree_control")):
        _write(os.path.join(own, "cgroup.subtree_control"), "+" + controller)
    group = os.path.join(own, _GROUP)
    os.makedirs(group, exist_ok=True)
    return group


def _leave(own: str) -> None:
    """Go into a group below: one that holds processes itself can have no limited groups below it."""
    inside = set(_words(os.path.join(own, "cgroup.procs")))
    if inside - {str(os.getpid())}:
        raise InvalidRequest("other processes are in the agent's group")
    if inside:
        agent = os.path.join(own, _AGENT)
        os.makedirs(agent, exist_ok=True)
        _write(os.path.join(agent, "cgroup.procs"), os.getpid())


def _words(path: str) -> List[str]:
    with open(path) as stream:
        return stream.read().split()


def _first_number(path: str) -> int:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else 0


def _pairs(path: str) -> List[Tuple[str, str]]:
    try:
        with open(path) as stream:
            words = [line.split() for line in stream]
    except OSError:
        return []
    return [(line[0], line[1]) for line in words if len(line) == 2]


def _write(path: str, value: object) -> None:
    with open(path, "w") as stream:
        stream.write(str(value))
