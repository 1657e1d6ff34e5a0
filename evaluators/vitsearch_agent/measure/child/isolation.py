"""Isolate the measuring child from the agent before it imports a runtime, as far as its kernel can.

It keeps the network only if the configuration says so. With Landlock it may read and execute everything but the
hidden paths, and change only its folder, where its temporary files go, and the cache; of the devices it may use
accelerators and those that keep nothing, not disks, terminals and the memory that processes share. With seccomp it
changes no other process, no permissions and times of files, and leaves nothing behind in the kernel. Landlock has no
rule that denies a path, so everything beside the hidden paths is allowed: the entries of each folder that leads to one.

    /  -->  /bin /etc /usr ... and, on the way to the state folder,  /var  -->  /var/log ...  -->  /var/lib/dpkg ...
"""

import errno
import os
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from vitsearch_agent.base import processes, sandbox, seccomp
from vitsearch_agent.measure.child import process_usage
from vitsearch_agent.wire.restriction import Restriction

ENTRIES_MAX = 1000
"""Of a folder with more entries on the way to a hidden path, only what the child needs is allowed: each rule costs
some microseconds."""

DEVICES = "/dev"
_PLAIN_DEVICES = ("null", "zero", "full", "random", "urandom")
_ACCELERATORS = (
    "accel", "adsprpc", "apex", "davinci", "devmm_svm", "dma_heap", "dri", "dxg", "ethosu", "fastrpc", "galcore",
    "hailo", "hisi_hdc", "ion", "kfd", "kgsl", "mali", "neuron", "nvgpu", "nvhost", "nvidia", "nvmap", "rknpu",
)  # fmt: skip
"""How the names of devices and folders in /dev begin that the drivers of GPUs and NPUs make."""
_NO_LANDLOCK = (errno.ENOSYS, errno.EOPNOTSUPP)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)

Scan = Callable[[str], Iterable[Any]]


def enter(job: Dict[str, Any]) -> Tuple[Restriction, ...]:
    """Give up the rights that the job's `isolation` names, and return which restrictions hold, each with its reason.

    A job without `isolation` keeps all rights. Never fails: a device whose kernel has nothing of it still measures.
    """
    wanted = job.get("isolation")
    if wanted is None:
        return ()
    network = _without_network() if not wanted["network"] else Restriction("network", False, "config.json allows it")
    process_usage.keep_reset()
    # After it: the maps of a user namespace could not be written any more.
    files, abi = _with_landlock(job, wanted)
    if not network.holds and not wanted["network"] and abi >= sandbox.TCP_ABI:
        network = Restriction("network", True, f"Landlock denies TCP, not UDP ({network.detail})")
    return _own_user(), files, network, _with_seccomp(signals=abi < sandbox.SIGNALS_ABI)


def _own_user() -> Restriction:
    user = os.geteuid()
    if user == 0:
        return Restriction("user", False, "a model runs as root, like the agent: give the agent its own user")
    return Restriction("user", False, f"a model runs as the agent's own user, uid {user}")


def _without_network() -> Restriction:
    try:
        sandbox.leave_network()
    except OSError as error:
        return Restriction("network", False, f"no network namespace: {error.strerror}")
    return Restriction("network", True, "network namespace")


def _with_landlock(job: Dict[str, Any], wanted: Dict[str, Any]) -> Tuple[Restriction, int]:
    """Return whether Landlock protects the files, and its version: 0 without it."""
    try:
        abi = sandbox.landlock_abi()
        rules = sandbox.Ruleset(abi, wanted["network"])
        _allow(rules, job, wanted)
        rules.enforce()
    except OSError as error:
        why = "Linux 5.13 or newer, built and started with it" if error.errno in _NO_LANDLOCK else error.strerror
        return Restriction("files", False, f"no Landlock: {why}"), 0
    return Restriction("files", True, f"Landlock ABI {abi}"), abi


def _with_seccomp(signals: bool) -> Restriction:
    """Return whether other processes are protected, from `signals` too where Landlock does not do that."""
    try:
        seccomp.refuse_calls(signals)
    except OSError as error:
        is_missing = error.errno in (errno.ENOSYS, errno.EINVAL) and error.strerror == os.strerror(error.errno)
        why = "Linux 3.17 or newer, built with it" if is_missing else error.strerror
        return Restriction("processes", False, f"no seccomp: {why}")
    return Restriction("processes", True, "seccomp")


def _allow(rules: sandbox.Ruleset, job: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    folder, hidden = os.path.realpath(os.curdir), wanted["hidden"]
    changeable = {path for root in map(os.path.realpath, wanted["writable"]) for path in visible_entries(root, hidden)}
    changeable.update([folder, *([job["cache"]] if job.get("cache") else [])])
    if job.get("group") is not None:
        changeable.add(os.path.join(job["group"], "cgroup.procs"))
    _add(rules, ["/"], sandbox.READ_DIR)
    _add(rules, set(readable_paths([*hidden, DEVICES], needed_paths(job))) - changeable, sandbox.READ)
    _add(rules, devices(), sandbox.USE)
    _add(rules, changeable, sandbox.READ_WRITE)


def _add(rules: sandbox.Ruleset, paths: Iterable[str], access: int) -> None:
    for path in paths:
        try:
            rules.allow(path, access)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise


def devices(scan: Scan = os.scandir) -> List[str]:
    """Return the devices that a model may use, and the folders of such. A link leads to a device with its own name."""
    try:
        inside = [entry.name for entry in scan(DEVICES) if not entry.is_symlink()]
    except OSError:
        return []  # not even /dev/null: a runtime that needs it says so itself
    names = [name for name in inside if name in _PLAIN_DEVICES or name.startswith(_ACCELERATORS)]
    return [os.path.join(DEVICES, name) for name in names]


def needed_paths(job: Dict[str, Any]) -> List[str]:
    """Return where this interpreter, its packages, libraries, the tool of the runtime and files of the job lie."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, processes.package_folder(), *sys.path, *libraries]
    needed = job["isolation"]["needed"] if job.get("isolation") else ()
    return [path for path in (*folders, sys.executable, job.get("tool"), *needed) if path]


def readable_paths(hidden: Sequence[str], needed: Iterable[str], scan: Scan = os.scandir) -> List[str]:
    """Return paths that together contain every file but the hidden ones.

    A needed path below a hidden folder is readable, for example a virtual environment in the state folder.
    """
    readable = list(visible_entries(os.sep, hidden, scan))
    everywhere = set(readable)
    for path in map(os.path.realpath, needed):
        if everywhere.isdisjoint((path, *_folders_of(path))):
            readable += list(visible_entries(path, hidden, scan)) or [path] * (path not in hidden)
    return readable


def visible_entries(path: str, hidden: Sequence[str], scan: Scan = os.scandir) -> Iterator[str]:
    """Yield `path` if nothing below it is hidden, else those of its entries; nothing if it is hidden itself.

    All paths are real ones. Links are left out: where they lead to is allowed by its own path, or hidden.
    """
    if set(hidden).isdisjoint((path, *_folders_of(path))):
        ways = {folder for secret in hidden for folder in _folders_of(secret)}
        yield from _visible_entries(path, set(hidden), ways, scan)


def _visible_entries(path: str, hidden: Set[str], ways: Set[str], scan: Scan) -> Iterator[str]:
    if path not in ways:
        yield path
        return
    try:
        inside = [os.path.join(path, entry.name) for entry in scan(path) if not entry.is_symlink()]
    except OSError:
        inside = []  # a folder that this user may pass but not list
    if len(inside) > ENTRIES_MAX:
        inside = [entry for entry in inside if entry in ways]
    for entry in inside:
        if entry not in hidden:
            yield from _visible_entries(entry, hidden, ways, scan)


def _folders_of(path: str) -> List[str]:
    """Return the folders that contain a path, `/` last."""
    folders = []
    while path != os.sep:
        path = os.path.dirname(path)
        folders.append(path)
    return folders
