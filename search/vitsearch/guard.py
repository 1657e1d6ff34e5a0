"""Nothing outlives a run: a small process that waits for its driver to die and then ends what is left.

Ray's helper processes notice a killed driver late, or never when it dies while they start. Everything
that a run starts inherits a mark in its environment; the guard reads its standard input, a pipe that
only the driver holds, and when that ends although nobody said goodbye, it kills what bears the mark.
Linux only (``/proc``); elsewhere Ray's own clean-up has to do.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

MARK = "VITSEARCH_RUN"
GOODBYE = b"done\n"
GRACE_S = 1.0
SWEEPS = 20
PROC = Path("/proc")


class Guard:
    """Enter before anything else is started; leave when everything was ended in order."""

    def __enter__(self) -> Guard:
        self._process: subprocess.Popen[bytes] | None = None
        if PROC.exists():
            os.environ[MARK] = secrets.token_hex(8)
            command = [sys.executable, str(Path(__file__)), os.environ[MARK]]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate(GOODBYE)
            os.environ.pop(MARK, None)


def marked(token: str) -> list[int]:
    """Processes of the run, this one left out."""
    wanted, found = f"{MARK}={token}".encode(), []
    for place in PROC.glob("[0-9]*"):
        try:
            if wanted in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return [pid for pid in found if pid != os.getpid()]


def sweep(token: str) -> None:
    """Kill until nothing is found any more: what dies may just have started another."""
    for _ in range(SWEEPS):
        pids = marked(token)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.1)


def main() -> None:
    if sys.stdin.buffer.read() != GOODBYE:
        time.sleep(GRACE_S)
        sweep(sys.argv[1])


if __name__ == "__main__":
    main()
