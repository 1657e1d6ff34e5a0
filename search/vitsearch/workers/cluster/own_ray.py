"""A Ray on this machine that belongs to one run: nobody else can use it, and nothing of it is left.

Whoever has the token of a Ray cluster runs any code there, as the user who started it. So a run makes a token of its
own, which is nowhere but in the environment of its processes; their servers listen on loopback; and their files are in
a folder that only this user can open.
"""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vitsearch.errors import ResourceError, WorkersLost
from vitsearch.workers.process_tree import kill_marked
from vitsearch_agent.base.printable import printable
from vitsearch_agent.base.python import SAFE_PATH

START_S = 90.0
"""A start that takes longer is ended, and tried once more. Ray's own limits add up to several minutes."""
PREFIX = "vs-ray-"
LOCK = "lock"
SOCKET_BYTES = 107 if sys.platform == "linux" else 103
"""The longest path of a socket."""
LONGEST = "xxxxxxxx/r/session_2026-12-31_23-59-59_123456_4194304/sockets/plasma_store.99"
"""What may follow `PREFIX` in the path of a socket."""
TOKEN = "RAY_AUTH_TOKEN"
UMASK = "VITSEARCH_UMASK"
"""In the environment of Ray's processes: the umask of the user, which workers take back for the files of the study."""

logger = logging.getLogger(__name__)


class OwnRay:
    """A Ray that runs from `start` to `close`. `ray` is the module."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._token = secrets.token_hex(32)
        self.folder, self._lock = _new_folder()

    @classmethod
    def start(cls, ray: Any, arguments: Mapping[str, Any]) -> OwnRay:
        """Start Ray with `arguments` of `ray.init`, in a second attempt if the first one fails.

        Raises `WorkersLost` with one line if both fail, and `ResourceError` where there is no place for
        its files.
        """
        try:
            return cls._started(ray, arguments)
        except WorkersLost as error:
            logger.warning("%s; trying once more", error)
        try:
            return cls._started(ray, arguments)
        except WorkersLost as error:
            raise WorkersLost(f"{error}; it was tried twice; run the same command again to resume") from error

    @classmethod
    def _started(cls, ray: Any, arguments: Mapping[str, Any]) -> OwnRay:
        own = cls(ray)
        try:
            own._init(arguments)
        except Exception as error:
            own.close()
            raise WorkersLost(f"Ray did not start on this machine: {in_one_line(error)}") from error
        except BaseException:
            own.close()
            raise
        return own

    def _init(self, arguments: Mapping[str, Any]) -> None:
        variables = {
            "RAY_AUTH_MODE": "token",
            TOKEN: self._token,
            SAFE_PATH: "1",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's word for: the address of this node is that of loopback
        }
        log = logging.getLogger("ray")
        with ExitStack() as closing:
            variables[UMASK] = f"{closing.enter_context(_private_files()):o}"
            closing.enter_context(_environment(variables))
            closing.enter_context(_on_loopback(self._ray))
            closing.enter_context(_native_stderr_to(self.folder / "stderr"))
            closing.enter_context(_at_most(START_S))
            self._forget_token()
            # Errors of a start are in what it raises; Ray would print them too.
            log.setLevel(logging.CRITICAL)
            self._ray.init(
                address="local",  # whatever RAY_ADDRESS says
                _temp_dir=str(self.folder / "r"),
                logging_level=logging.CRITICAL,
                log_to_driver=False,
                **arguments,
            )
            addresses = {node["NodeManagerAddress"] for node in self._ray.nodes()}
        log.setLevel(logging.ERROR)
        if others := [address for address in addresses if not ipaddress.ip_address(address).is_loopback]:
            raise ConnectionError(f"it listens on {', '.join(others)}, which others can reach")

    def close(self) -> None:
        """End Ray's processes and remove their files."""
        with suppress(Exception):  # of a start that has failed, Ray may know half
            self._ray.shutdown()
        kill_marked(f"{TOKEN}={self._token}")
        self._forget_token()
        _remove(self.folder)
        self._lock.close()

    def _forget_token(self) -> None:
        """Ray keeps the token and the mode that a process has had first."""
        self._ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
        self._ray._raylet.Config.initialize("")


def take_back_umask() -> None:
    """In a worker: write files with the umask of the user, who may share the folder of the study with others."""
    if value := os.environ.get(UMASK):
        os.umask(int(value, 8))


def in_one_line(error: Exception) -> str:
    """The first line of what Ray says, without its paragraphs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable((lines[0].rstrip(".") if lines else type(error).__name__)[:200])


def _new_folder() -> tuple[Path, IO[bytes]]:
    """A folder that only this user can open, with a short path, and its lock, which ends with this process.

    Folders of this user whose process has ended, however it has, are removed first.
    """
    for place in dict.fromkeys(filter(None, (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp"))):
        if len(os.fsencode(os.path.join(place, PREFIX + LONGEST))) > SOCKET_BYTES:
            continue
        with suppress(OSError):
            _remove_left(Path(place))
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            try:
                return folder, _locked(folder)
            except OSError:
                _remove(folder)
    raise ResourceError(
        "Ray needs a folder for its sockets: neither RAY_TMPDIR, TMPDIR nor /tmp has a path of at most "
        f"{SOCKET_BYTES - len(PREFIX + LONGEST) - 1} bytes and can be written"
    )


def _locked(folder: Path) -> IO[bytes]:
    """The lock of a new folder. It has its name only when it is held: another start removes what it can lock."""
    lock = (folder / f"{LOCK}.new").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / f"{LOCK}.new").rename(folder / LOCK)
    except OSError:
        lock.close()
        raise
    return lock


def _remove_left(place: Path) -> None:
    """Remove the folders of runs that were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            # Without the lock file it has just been made. A link in its place is not followed.
            descriptor = os.open(folder / LOCK, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(20):  # processes that end may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started in the block: afterwards this process has them no more, and so
    hands no token to others, such as an agent."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _private_files() -> Iterator[int]:
    """Files and sockets that are made in the block are for this user alone, also those of processes that it starts.
    Gives the umask of before."""
    before = os.umask(0o077)
    try:
        yield before
    finally:
        os.umask(before)


@contextmanager
def _on_loopback(ray: Any) -> Iterator[None]:
    """Ray has read the variable for it when it was imported, which may have been earlier."""
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _native_stderr_to(path: Path) -> Iterator[None]:
    """Keep from the user what native code, and the processes that it starts, write to stderr. What Python writes there
    meanwhile, in any thread, is shown."""
    python = sys.stderr
    with ExitStack() as closing:
        try:
            is_ours = python.fileno() == 2
            before = os.dup(2)
        except (AttributeError, OSError, ValueError):  # there is none, or it is somebody's object
            is_ours, before = False, None
        if before is not None:
            closing.callback(os.close, before)
            if is_ours:
                python.flush()
                sys.stderr = closing.enter_context(
                    open(before, "w", buffering=1, encoding=python.encoding, errors="backslashreplace", closefd=False)
                )
            with path.open("ab") as stream:
                os.dup2(stream.fileno(), 2)
            closing.callback(os.dup2, before, 2)
        try:
            yield
        finally:
            sys.stderr = python


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer. Does nothing outside the main thread, where Python cannot set
    signal handlers and Ray's own limits have to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(number: int, frame: object) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)  # again, in case Ray takes the first one for an error of its own
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
