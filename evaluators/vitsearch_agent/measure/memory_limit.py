"""The memory limit of a measuring child (`limits.memory_mb` of the configuration) and how it is enforced.

A memory cgroup below the agent's counts the memory in use, kills a child that exceeds the limit and records
the kill (`memory.events`). Where no cgroup can be made, the child's address space is limited: allocations then
fail, and the runtime reports it. An address limit only suits runtimes on the CPU: CUDA reserves far more
addresses than it uses (`Runtime.reserves_addresses`).

    agent.service                  delegated to the agent, without processes (the kernel requires it in version 2)
      vitsearch-agent              the agent: it moves there, or systemd starts it there (DelegateSubgroup)
      vitsearch-measured           one child at a time, with memory.max

systemd removes both groups when the service ends, so every start finds the service's group in the same state.
Version 1 has no such rule, but only root may make groups in it (systemd does not delegate them), below its own.

Without `memory_mb` the kernel decides when memory runs out, and kills the child first (`oom_score_adj`).
"""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from vitsearch_agent.base.system import System
from vitsearch_agent.errors import InvalidRequest

_GROUP = "vitsearch-measured"
_AGENT = "vitsearch-agent"
_MAPPED = "/proc/self/statm"
MB = 10**6


class MemoryLimit(NamedTuple):
    """`group` is the folder of a cgroup, or None with the `reason`; without `memory_mb` nothing is limited."""

    memory_mb: Optional[int] = None
    group: Optional[str] = None
    reason: Optional[str] = None

    def for_child(self) -> Dict[str, Any]:
        """Return the part of the job with which the child applies the limit to itself."""
        return {"memory_mb": self.memory_mb, "group": self.group}

    def describe(self) -> Dict[str, Any]:
        """Return the limit for the fingerprint: with little memory a model may run other code paths."""
        by = "cgroup" if self.group is not None else "address space" if self.memory_mb is not None else "nothing"
        return {"memory_mb": self.memory_mb, "by": by, "reason": self.reason}

    def kills(self) -> Optional[int]:
        """Return how many processes the kernel has killed in the group, None where no counter exists."""
        for name in ("memory.events", "memory.oom_control"):
            for key, value in _pairs(os.path.join(self.group or "/nowhere", name)):
                if key == "oom_kill" and value.isdigit():
                    return int(value)
        return None


NO_MEMORY_LIMIT = MemoryLimit()


def set_up(memory_mb: Optional[int], system: System) -> MemoryLimit:
    """Make a memory cgroup of that size for the children, else limit their addresses and record the reason.

    It never raises.
    """
    if memory_mb is None:
        return NO_MEMORY_LIMIT
    own, is_v2 = _own_group(system)
    if own is None:
        return _by_addresses(memory_mb, "the system has no memory controller")
    path = system.at(own)
    try:
        group = _make_v2(path, memory_mb) if is_v2 else _make_v1(path, memory_mb)
    except (OSError, InvalidRequest) as error:
        why = getattr(error, "strerror", None) or str(error)
        return _by_addresses(memory_mb, f"no memory cgroup can be made in {own}: {why}")
    return MemoryLimit(memory_mb, group)


def _by_addresses(memory_mb: int, reason: str) -> MemoryLimit:
    if os.path.exists(_MAPPED):
        return MemoryLimit(memory_mb, None, reason)
    return MemoryLimit(None, None, f"{reason}, and no {_MAPPED}")


def join(group: str) -> None:
    """Move this process, and every process that it starts, into a group; OSError when that fails."""
    _write(os.path.join(group, "cgroup.procs"), os.getpid())


def limit_addresses(memory_mb: int) -> None:
    """Allow this process to map `memory_mb` more than it has mapped now; the loaded runtime does not count."""
    import resource  # Linux only, like limits themselves

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
    for _, controllers, path in entries:
        if "memory" in controllers.split(","):
            return _existing(system, "/sys/fs/cgroup/memory", path), False
    for _, controllers, path in entries:
        if controllers == "":
            return _existing(system, "/sys/fs/cgroup", path), True
    return None, False


def _existing(system: System, root: str, group: str) -> Optional[str]:
    # A container sees its own group as the root, whatever its path outside is.
    for path in (root + group.rstrip("/"), root):
        if os.path.exists(os.path.join(system.at(path), "cgroup.procs")):
            return path
    return None


def _make_v1(own: str, memory_mb: int) -> str:
    group = os.path.join(own, _GROUP)
    os.makedirs(group, exist_ok=True)
    # The second limit (memory and swap) may never be below the first, so the first is set before and after it.
    limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    for name in limits + limits[:1]:
        if os.path.exists(os.path.join(group, name)):
            try:
                _write(os.path.join(group, name), memory_mb * MB)
            except OSError:
                if name != limits[0]:
                    raise
    if _first_number(os.path.join(group, limits[0])) > memory_mb * MB:
        raise InvalidRequest("the kernel does not accept the limit")
    return group


def _make_v2(own: str, memory_mb: int) -> str:
    group = group_below(os.path.dirname(own) if os.path.basename(own) == _AGENT else own, "memory")
    _write(os.path.join(group, "memory.max"), memory_mb * MB)
    for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
        if os.path.exists(os.path.join(group, name)):
            _write(os.path.join(group, name), value)
    return group


def group_below(own: str, controller: str) -> str:
    """Make the children's group (version 2) with a controller enabled; OSError or InvalidRequest when that fails."""
    if controller not in _words(os.path.join(own, "cgroup.controllers")):
        raise InvalidRequest(f"the {controller} controller is not delegated (systemd: Delegate={controller})")
    _move_to_subgroup(own)
    if controller not in _words(os.path.join(own, "cgroup.subtree_control")):
        _write(os.path.join(own, "cgroup.subtree_control"), "+" + controller)
    group = os.path.join(own, _GROUP)
    os.makedirs(group, exist_ok=True)
    return group


def _move_to_subgroup(own: str) -> None:
    """Move the agent to a subgroup: a group that holds processes cannot have limited subgroups."""
    inside = set(_words(os.path.join(own, "cgroup.procs")))
    if inside - {str(os.getpid())}:
        raise InvalidRequest("the agent's group contains other processes")
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
