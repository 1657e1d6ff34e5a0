"""An event loop whose clock jumps to the next timer when nothing else is to do: waits cost nothing, and a run that
waits for ever is seen at once."""

import asyncio
import selectors


class WaitsForEver(Exception):
    """The program waits longer than `limit_s` of virtual seconds."""


class _Jumping:
    """A selector that does not wait for its timeout but adds it to the clock."""

    def __init__(self, limit_s):
        self._selector = selectors.DefaultSelector()
        self._limit_s = limit_s
        self.now_s = 0.0

    def select(self, timeout=None):
        events = self._selector.select(timeout if timeout is None or timeout <= 0 else 0)
        if not events and timeout is not None and timeout > 0:
            self.now_s += timeout
            if self.now_s > self._limit_s:
                raise WaitsForEver(f"{self._limit_s:g} s")
        return events

    def __getattr__(self, name):
        return getattr(self._selector, name)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, limit_s):
        self._jumping = _Jumping(limit_s)
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s


def run(main, limit_s=7200.0):
    """The result of a coroutine; raises `WaitsForEver` when it takes more than `limit_s` of its own clock."""
    with asyncio.Runner(loop_factory=lambda: _VirtualLoop(limit_s)) as runner:
        return runner.run(main)
