"""The system as this package sees it: files below a root folder, commands, and clocks.

Only this module opens the machine's /sys and /proc or starts a tool. So tests replace it by a recorded tree and
recorded answers, and cover every reader of power, temperature and settings.
"""

import glob
import math
import os
import re
import subprocess
import threading
import time
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence

COMMAND_TIMEOUT_S = 10.0
_STOP_S = 2.0
_LONGEST_LINE = 16384
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?\Z")


class Reading(NamedTuple):
    """The text of a file, or None and the reason why it could not be read."""

    text: Optional[str]
    reason: Optional[str]


class Output(NamedTuple):
    """What a command printed; `reason` describes why it failed, None if it succeeded."""

    stdout: str
    reason: Optional[str]


def user_cache_folder(environ: Optional[Mapping[str, str]] = None) -> str:
    """Return the user's folder for files that may be lost: `vitsearch` in $XDG_CACHE_HOME, or in ~/.cache without one.

    Source: XDG base directory specification, by which a relative path counts as none.
    """
    variables = os.environ if environ is None else environ
    cache = variables.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.join(variables.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "vitsearch")


def run_command(argv: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> Output:
    """Run a tool without a shell. Never raises: `reason` describes a tool that is missing or fails."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return Output("", f"{argv[0]} did not end within {timeout_s:g} s")
    except OSError as error:
        return Output("", f"{argv[0]} cannot be run: {error.strerror}")
    stdout = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        message = done.stderr.decode("utf-8", "replace").strip()[-200:]
        return Output(stdout, f"{argv[0]} ended with {done.returncode}: {message}")
    return Output(stdout, None)


class Stream:
    """A tool that runs and prints until it is closed; another thread calls `on_line` for each line.

    Never raises. If this process is killed, the tool ends when it prints its next line (SIGPIPE).
    """

    def __init__(self, argv: Sequence[str], on_line: Callable[[str], None]) -> None:
        self._name = argv[0]
        self._on_line = on_line
        self._reason: Optional[str] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._reason = f"{self._name} cannot be run: {error.strerror}"
            return
        self._reader = threading.Thread(target=self._read, name="tool", daemon=True)
        self._reader.start()

    def ended(self) -> Optional[str]:
        """Return why the tool prints no more lines, None while it runs."""
        return self._reason

    def close(self) -> None:
        """End the tool: terminate it, and kill it if that takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        for end in (process.terminate, process.kill):
            end()
            try:
                process.wait(_STOP_S)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(_STOP_S)

    def _read(self) -> None:
        process = self._process
        output = None if process is None else process.stdout
        assert output is not None
        with output:
            while True:
                line = output.readline(_LONGEST_LINE)
                if not line:
                    break
                self._on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
        self._reason = f"{self._name} has ended"


class NoStream(Stream):
    """The stream of a tool that does not exist, for emulated devices."""

    def __init__(self, argv: Sequence[str], on_line: Callable[[str], None]) -> None:
        self._process = None
        self._reason = f"{argv[0]} cannot be run: it does not exist"


class System(NamedTuple):
    """Access to one system: `root` is put before every path; `run` and `stream` start tools; `clock` is monotonic
    time and `wall` Unix time, both in seconds."""

    root: str = "/"
    run: Callable[[Sequence[str]], Output] = run_command
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = time.time
    stream: Callable[[Sequence[str], Callable[[str], None]], Stream] = Stream

    def read(self, path: str) -> Reading:
        """Return a file's text, stripped; `path` is the absolute path on the device."""
        try:
            with open(self.at(path), errors="replace") as stream:
                return Reading(stream.read().strip(), None)
        except OSError as error:
            return Reading(None, f"{path} cannot be read: {error.strerror}")

    def number(self, path: str) -> Optional[float]:
        """Return the number in a file, None if the file holds anything else."""
        return parse_number(self.read(path).text)

    def counter(self, path: str) -> Optional[int]:
        """Return the non-negative whole number in a file, None if the file holds anything else."""
        return whole(self.read(path).text or "")

    def glob(self, pattern: str) -> List[str]:
        """Return the matching paths on the device, sorted."""
        prefix = self.root.rstrip("/")
        # The root may be any folder, also one with brackets in its name.
        full = os.path.join(glob.escape(self.root), pattern.lstrip("/"))
        return [path[len(prefix) :] for path in sorted(glob.glob(full))]

    def real(self, path: str) -> Optional[str]:
        """Return the path behind links of a path on the device, None if there is nothing."""
        full = self.at(path)
        return os.path.realpath(full) if os.path.exists(full) else None

    def at(self, path: str) -> str:
        """Return the path under which this process finds a path of the device."""
        return os.path.join(self.root, path.lstrip("/"))


THIS_MACHINE = System()


def parse_number(text: Optional[str]) -> Optional[float]:
    """Return `text` as a finite decimal number; None for anything else, such as `nan`, `1_000` or `12 mV`."""
    stripped = "" if text is None else text.strip(" \t\r\n")
    if not _NUMBER.match(stripped):
        return None
    number = float(stripped)
    return number if math.isfinite(number) else None


def whole(text: str) -> Optional[int]:
    """Return a counter or size from the kernel (up to 20 digits) as a number, None for any other text."""
    return int(text) if re.match(r"[0-9]{1,20}\Z", text) else None
