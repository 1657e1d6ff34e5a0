"""Nothing outlives a run: a small process that waits for its driver to die and then ends what is left.

Ray's helper processes notice a killed driver late, or never when it dies while they start. Everything
that a run starts inherits a mark in its environment; the guard reads its standard input, a pipe that
only the driver holds, and when that ends it kills what still bears the mark.
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
QUIET_SCANS = 30
SCAN_S = 0.1
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
    return [pid for pid in found if pid != os.getpid() and not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    """A dead process whose parent does not ask: nothing more can be done about it."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def sweep(token: str, spare: int | None, quiet_scans: int) -> None:
    """Kill until nothing was found for a while: what dies may just have started another, and a process
    between fork and exec cannot be recognised. ``spare`` is the driver, when it still lives."""
    quiet = 0
    while quiet < quiet_scans:
        pids = [pid for pid in marked(token) if pid != spare]
        quiet = 0 if pids else quiet + 1
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(SCAN_S)


def main() -> None:
    token, driver = sys.argv[1], os.getppid()
    if sys.stdin.buffer.read() == GOODBYE:
        sweep(token, spare=driver, quiet_scans=1)
    else:
        time.sleep(GRACE_S)
        sweep(token, spare=None, quiet_scans=QUIET_SCANS)


if __name__ == "__main__":
    main()
