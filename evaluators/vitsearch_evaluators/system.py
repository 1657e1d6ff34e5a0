"""The system as this package sees it: files below a root, and commands. Tests put others in its place.

Nothing outside this module opens /sys or /proc of the whole machine or starts a tool, so that a recorded
tree and recorded answers test every reader of power, temperature and settings.
"""

import glob
import os
import subprocess
import time
from typing import Callable, List, NamedTuple, Optional, Sequence

COMMAND_TIMEOUT_S = 10.0


class Reading(NamedTuple):
    """What was read, or None and the reason why not."""

    text: Optional[str]
    reason: Optional[str]


class Output(NamedTuple):
    """What a command printed; `reason` says why it did not run to a good end, None when it did."""

    stdout: str
    reason: Optional[str]


def run_command(argv: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> Output:
    """Run a tool without a shell. It never raises: a tool that is missing or fails is a reason."""
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
        said = done.stderr.decode("utf-8", "replace").strip()[-200:]
        return Output(stdout, f"{argv[0]} ended with {done.returncode}: {said}")
    return Output(stdout, None)


class System(NamedTuple):
    """`root` stands before every path; `run` starts tools; `clock` is monotonic seconds."""

    root: str = "/"
    run: Callable[[Sequence[str]], Output] = run_command
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def read(self, path: str) -> Reading:
        """Return a file's text, stripped; `path` is absolute, as it is on the device."""
        try:
            with open(self._at(path), errors="replace") as stream:
                return Reading(stream.read().strip(), None)
        except OSError as error:
            return Reading(None, f"{path} cannot be read: {error.strerror}")

    def number(self, path: str) -> Optional[float]:
        """Return a file's one number, None for anything else."""
        text = self.read(path).text
        try:
            return None if text is None else float(text)
        except ValueError:
            return None

    def glob(self, pattern: str) -> List[str]:
        """Return the paths, as they are on the device, in a stable order."""
        prefix = self.root.rstrip("/")
        return [path[len(prefix) :] for path in sorted(glob.glob(self._at(pattern)))]

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))
