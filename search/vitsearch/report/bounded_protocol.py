"""The protocol of `vitsearch serve`: uvicorn's own, which would wait for a request for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""A connection is closed when no whole request has arrived on it for so long."""
CONNECTIONS, BACKLOG = 500, 64
"""Of this many at the same time, further ones are closed at once: without a bound they use up the files that a process
may open. The backlog is how many the event loop accepts before it looks."""


class BoundedProtocol(H11Protocol):
    """Closes a connection whose client sends nothing, or a byte now and then. A request that is being answered, such as
    the stream of events, may last."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            return transport.abort()  # type: ignore[no-any-return]
        self._wait_for_request()

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is answered:  # otherwise the next request had arrived before
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        self._cancel()
        self._timer = self.loop.call_later(HEAD_S, self._end_without_request, self.cycle)

    def _end_without_request(self, before: object) -> None:
        if self.cycle is before and not self.transport.is_closing():
            self.transport.close()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
