"""How a Linux process gives up rights for good: Landlock denies it files, a network namespace the network.

Landlock (Linux 5.13) denies every path for which no rule was added. It covers opening, creating, removing and
executing, not stat, chmod (`seccomp` does) or the connection to a socket that is a file. Its version (ABI) 4 can deny
TCP, version 6 signals to other processes. The processes that this one starts inherit all of it.

Sources: the kernel's Documentation/userspace-api/landlock.rst, landlock(7), user_namespaces(7), capset(2). Every
function raises OSError where the kernel refuses.
"""

import contextlib
import ctypes
import errno
import functools
import os
import stat
import struct
import sys
from typing import Any

# These numbers are the same on every processor that has a port of Linux 5.13, except alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH, _VERSION = 1, 1
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITY_VERSION = 0x20080522

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE
READ = EXECUTE | READ_FILE | READ_DIR
USE = READ_FILE | READ_DIR | WRITE_FILE | _TRUNCATE
"""For devices: opening those that are there, and making no file beside them."""
READ_WRITE = (1 << 15) - 1
"""Everything, with creating, removing, moving between folders (since ABI 2) and truncating (ABI 3)."""

_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1}
TCP_ABI, SIGNALS_ABI = 4, 6
_TCP_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2


def landlock_abi() -> int:
    """Return the version of Landlock; OSError when the kernel was built or started without it."""
    return system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)


class Ruleset:
    """The rules of a Landlock domain. `allow` paths, then `enforce`; without network it denies what its ABI can."""

    def __init__(self, abi: int, network: bool) -> None:
        self._access = _HANDLED.get(abi, READ_WRITE)
        tcp = 0 if network or abi < TCP_ABI else _TCP_BIND_AND_CONNECT
        scoped = 0 if abi < SIGNALS_ABI else _SIGNALS if network else _SIGNALS | _ABSTRACT_SOCKETS
        attributes = struct.pack("QQQ", self._access, tcp, scoped)
        # An older kernel accepts a longer structure whose unknown part is 0.
        self._descriptor = system_call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)

    def allow(self, path: str, access: int) -> None:
        """Allow `access` to a file, or to a folder and everything below it."""
        opened = os.open(path, os.O_PATH)
        try:
            is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
            rights = access & self._access & (READ_WRITE if is_folder else _OF_FILES)
            system_call(_ADD_RULE, self._descriptor, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
        finally:
            os.close(opened)

    def enforce(self) -> None:
        """Restrict this process, which must not gain privileges by exec any more (PR_SET_NO_NEW_PRIVS)."""
        try:
            system_call(_RESTRICT_SELF, self._descriptor, 0)
        finally:
            os.close(self._descriptor)


def leave_network() -> None:
    """Move this process, which must have one thread, into a network without interfaces.

    That needs a privilege, which a user namespace gives within itself. The user's id stays the same in it.
    """
    try:
        _unshare(_CLONE_NEWNET)
        return
    except PermissionError:
        pass
    user, group = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    maps = (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1"))
    with contextlib.suppress(OSError):  # without the maps, files of this user seem to be those of nobody
        for name, content in maps:
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(content)
    _drop_capabilities()


def _drop_capabilities() -> None:
    """Give up the capabilities that this process has within its new user namespace."""
    nothing = struct.pack("6I", *[0] * 6)
    if _library().capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), nothing) != 0:
        raise _error()


def _unshare(flags: int) -> None:
    if _library().unshare(flags) != 0:
        raise _error()


def system_call(number: int, *arguments: Any) -> int:
    """Return the result of a system call; OSError where it fails."""
    result = int(_library().syscall(ctypes.c_long(number), *map(_register, arguments)))
    if result < 0:
        raise _error()
    return result


def _register(value: Any) -> Any:
    """Return an argument as wide as a register of the processor."""
    return ctypes.c_long(value) if isinstance(value, int) else value


@functools.lru_cache(maxsize=1)
def _library() -> Any:
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
