"""The progress of a local measurement, for the person who waits for it."""

import sys
from typing import Any, Optional, TextIO

from vitsearch_agent.base.locks import Holder
from vitsearch_agent.base.printable import printable
from vitsearch_agent.base.processes import ProcessId
from vitsearch_agent.wire.measure_protocol import MeasureProtocol


class Progress:
    """Shows the progress on stderr.

    On a terminal, one line shows the current process and is overwritten by the next. Elsewhere, only the phases
    that take long are printed. Events are shown under their names in `events`.
    """

    def __init__(self, model: str, protocol: MeasureProtocol, stream: Optional[TextIO] = None) -> None:
        self._model = model
        self._processes = protocol.processes
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._latency = 0

    def started(self, phase: str, _process: ProcessId) -> None:
        """Show that the process of a phase has started."""
        if phase == "latency":
            self._latency += 1
        if self._is_terminal:
            of = f" {min(self._latency, self._processes)} of {self._processes}" if phase == "latency" else ""
            self._overwrite(f"{self._model}: {phase}{of}")
        elif phase != "latency":
            self._print(f"{phase} phase")

    def event(self, what: str, **details: Any) -> None:
        """Show an event, such as waiting for the device to cool down."""
        values = ", ".join(f"{key} {value}" for key, value in details.items())
        self.close()
        self._print(f"{what} ({values})" if values else what)

    def waiting(self, other: Holder) -> None:
        """Show the process that has to end its measurement first."""
        self.close()
        self._print(f"waiting for pid {other.pid}, which measures {other.work}")

    def close(self) -> None:
        """Clear the line of a terminal."""
        if self._is_terminal:
            self._overwrite("")

    def _print(self, text: str) -> None:
        print(f"vitsearch-agent: {printable(text)}", file=self._stream)

    def _overwrite(self, text: str) -> None:
        self._stream.write(f"\r\033[K{printable(text)}")
        self._stream.flush()
