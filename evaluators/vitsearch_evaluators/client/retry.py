"""How long a client goes on asking a device that does not answer, and how often."""

import random
import threading
import time
from typing import Callable, NamedTuple, Optional, TypeVar

from vitsearch_evaluators.errors import EvaluatorError, JobCancelled, error_from_json

_RETRY_AFTER_MAX_S = 60.0

Answer = TypeVar("Answer")
OnTrouble = Callable[[Optional[EvaluatorError]], None]


class Backoff(NamedTuple):
    """Waiting times between attempts: doubled up to `max_s`, each shortened at random by half."""

    first_s: float = 0.25
    max_s: float = 15.0


class RetryPolicy:
    """How long to go on without an answer: backoff, deadline and the wish to cancel.

    `on_trouble` is told what is in the way each time that it is waited for, and None when it is gone.
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
        self._is_mended = False

    def renewed(self) -> "RetryPolicy":
        """Return the same patience, as long as it was at first, for something beside the answer waited for."""
        return RetryPolicy(self._backoff, self._deadline_s, self.cancel, self._on_trouble)

    def answered(self) -> None:
        """Begin anew: the device gave an answer that helps."""
        if self._failures:
            self._tell(None)
        self._last_answer = time.monotonic()
        self._failures = 0
        self._is_mended = False

    def check(self) -> None:
        """Raise JobCancelled when the caller has cancelled."""
        if self.cancel is not None and self.cancel.is_set():
            raise JobCancelled("cancelled by the caller")

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer, asking again as long as what is in the way may pass."""
        while True:
            try:
                return question()
            except EvaluatorError as error:
                if not error.transient:
                    raise
                self.wait(error)

    def wait(self, error: EvaluatorError, first_at_once: bool = False) -> None:
        """Wait before the next attempt; raise `error` when the deadline has passed.

        With `first_at_once`, `error` is an answer, and what it asks for was done: the first is no trouble.
        """
        silent_s = time.monotonic() - self._last_answer
        if silent_s > self._deadline_s:
            message = f"{error} (gave up after {silent_s:.0f} s without a useful answer)"
            raise error_from_json(dict(error.to_json(), message=message)) from error
        if first_at_once and not self._is_mended:
            self._is_mended = True
            if self._failures:
                self._tell(None)
            return
        self._failures += 1
        self._tell(error)
        longest_s = min(self._backoff.max_s, self._backoff.first_s * 2.0 ** min(self._failures, 20))
        delay_s = max(longest_s * (0.5 + 0.5 * random.random()), _asked_for_s(error))
        if self.cancel is None:
            time.sleep(delay_s)
        else:
            self.cancel.wait(delay_s)
        self.check()

    def _tell(self, trouble: Optional[EvaluatorError]) -> None:
        if self._on_trouble is not None:
            self._on_trouble(trouble)


def _asked_for_s(error: EvaluatorError) -> float:
    """How long a device that is asked too often wants to be left alone."""
    asked_s = error.details.get("retry_after_s")
    return min(asked_s, _RETRY_AFTER_MAX_S) if isinstance(asked_s, (int, float)) else 0.0
