"""How often, and for how long, a client repeats a request that a device does not answer."""

import random
import threading
import time
from typing import Callable, NamedTuple, Optional, TypeVar

from vitsearch_agent.errors import AgentError, JobCancelled, error_from_json

_RETRY_AFTER_MAX_S = 60.0

Answer = TypeVar("Answer")
OnTrouble = Callable[[Optional[AgentError]], None]


class Backoff(NamedTuple):
    """Waiting times between attempts: doubled up to `max_s`, each shortened at random by up to half."""

    first_s: float = 0.25
    max_s: float = 15.0


class RetryPolicy:
    """Backoff, deadline and cancellation for the requests of one operation.

    `on_trouble` is called with the error before each wait, and with None when the device answers again.
    """

    def __init__(
        self,
        backoff: Backoff,
        deadline_s: float,
        cancel: Optional[threading.Event],
        on_trouble: Optional[OnTrouble] = None,
    ) -> None:
        self.cancel = cancel
        self._backoff = backoff
        self._deadline_s = deadline_s
        self._on_trouble = on_trouble
        self._last_answer = time.monotonic()
        self._failures = 0
        self._retried_at_once = False

    def renewed(self) -> "RetryPolicy":
        """Return the same policy with its full time again, for an additional operation."""
        return RetryPolicy(self._backoff, self._deadline_s, self.cancel, self._on_trouble)

    def answered(self) -> None:
        """Start the deadline and the backoff again after a useful answer."""
        if self._failures:
            self._report(None)
        self._last_answer = time.monotonic()
        self._failures = 0
        self._retried_at_once = False

    def check(self) -> None:
        """Raise JobCancelled if the caller has cancelled."""
        if self.cancel is not None and self.cancel.is_set():
            raise JobCancelled("cancelled by the caller")

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer to `question`, repeated while it raises a transient error."""
        while True:
            try:
                return question()
            except AgentError as error:
                if not error.transient:
                    raise
                self.wait(error)

    def wait(self, error: AgentError, first_at_once: bool = False) -> None:
        """Wait before the next attempt; raise `error` if the deadline has passed.

        `first_at_once` means that `error` is an answer and its cause was removed: the first time there is no wait.
        """
        silent_s = time.monotonic() - self._last_answer
        if silent_s > self._deadline_s:
            message = f"{error} (gave up after {silent_s:.0f} s without a useful answer)"
            raise error_from_json(dict(error.to_json(), message=message)) from error
        if first_at_once and not self._retried_at_once:
            self._retried_at_once = True
            if self._failures:
                self._report(None)
            return
        self._failures += 1
        self._report(error)
        longest_s = min(self._backoff.max_s, self._backoff.first_s * 2.0 ** min(self._failures, 20))
        delay_s = max(longest_s * (0.5 + 0.5 * random.random()), _requested_wait_s(error))
        if self.cancel is None:
            time.sleep(delay_s)
        else:
            self.cancel.wait(delay_s)
        self.check()

    def _report(self, trouble: Optional[AgentError]) -> None:
        if self._on_trouble is not None:
            self._on_trouble(trouble)


def _requested_wait_s(error: AgentError) -> float:
    """Return the time that a busy device wants to wait before the next request."""
    wait_s = error.details.get("retry_after_s")
    return min(wait_s, _RETRY_AFTER_MAX_S) if isinstance(wait_s, (int, float)) else 0.0
