"""What a worker writes to stderr during a stage: kept when native code ends the worker, to say what it died of."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FATAL = "Fatal Python error: "
"""What faulthandler writes before the description of the signal."""
SIGNALS = {
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
    "Segmentation fault": "SIGSEGV",
}
LINES_BEFORE = 2
"""Lines before the trace that a message quotes, such as "corrupted double-linked list" from the C library."""
FRAMES = 3
"""Innermost Python frames that a message quotes."""


@contextmanager
def stderr_to(log: Path) -> Iterator[None]:
    """Append stderr of this process, native code included, to `log`; a fatal signal adds a Python trace."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with log.open("ab", buffering=0) as opened:
            os.dup2(opened.fileno(), 2)
        faulthandler.disable()  # Ray has enabled it on its own file, and put a handler of its own before it
        faulthandler.enable(2, all_threads=False)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


@dataclass(frozen=True)
class NativeCrash:
    """The death of a worker by a signal that its own code raised, and the end of its stderr."""

    signal: str
    last_lines: tuple[str, ...]
    log: Path

    @classmethod
    def read(cls, log: Path) -> NativeCrash | None:
        """None for a worker that left no trace: something else killed it, or it was lost with its node."""
        try:
            written = log.read_text(errors="replace")
        except OSError:
            return None
        lines = [line.strip() for line in written.splitlines() if line.strip()]
        fatal = [n for n, line in enumerate(lines) if line.removeprefix(FATAL) in SIGNALS and line.startswith(FATAL)]
        if not fatal:
            return None
        frames = [line for line in lines[fatal[-1] :] if line.startswith("File ")][:FRAMES]
        quoted = (*lines[max(0, fatal[-1] - LINES_BEFORE) : fatal[-1] + 1], *frames)
        return cls(SIGNALS[lines[fatal[-1]].removeprefix(FATAL)], quoted, log)

    @property
    def evidence(self) -> str:
        return f"its stderr ends with: {' | '.join(self.last_lines)}; log: {self.log}"
