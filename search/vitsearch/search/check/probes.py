"""Asking several things at once whether they work, each for some seconds at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsearch.errors import NoAnswer, VitsearchError

ANSWER_S = 5.0
"""After so long every probe has ended: what has not answered counts as away."""


@dataclass(frozen=True)
class Probe:
    """How something that a run needs is tried: ``ask`` returns what it found, for a person, or raises a
    :class:`~vitsearch.errors.VitsearchError` that says what to do.

    ``silent`` is what to do where it does not answer at all. A probe ``after`` another one begins when that has
    answered, and is left out when it has not. Of the probes that are ``one_of`` some, one has to succeed.
    """

    what: str
    where: str
    ask: Callable[[], str]
    silent: str
    after: str | None = None
    one_of: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came of a probe: what it found, or its error."""

    probe: Probe
    found: str | None = None
    error: VitsearchError | None = None

    def to_json(self) -> dict[str, Any]:
        error = None if self.error is None else str(self.error)
        return {"what": self.probe.what, "where": self.probe.where, "found": self.found, "problem": error}

    def describe(self) -> str:
        return f"{self.probe.what}: {self.probe.where}: {self.found}"


@dataclass
class _Asked:
    """A probe in its thread, which is left alone if it never answers."""

    probe: Probe
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    fault: Exception | None = None

    def start(self, before: _Asked | None) -> None:
        threading.Thread(target=self._ask, args=(before,), daemon=True, name=f"probe-{self.probe.what}").start()

    def _ask(self, before: _Asked | None) -> None:
        try:
            if before is not None:
                before.done.wait()
                if before.answer is None or before.answer.found is None:
                    return
            self.answer = Answer(self.probe, found=self.probe.ask())
        except VitsearchError as error:
            self.answer = Answer(self.probe, error=error)
        except Exception as fault:  # noqa: BLE001 - raised again where the answers are awaited
            self.fault = fault
        finally:
            self.done.set()


def ask_all(probes: Sequence[Probe], answer_s: float = ANSWER_S) -> tuple[Answer, ...]:
    """Ask all at the same time, and return after ``answer_s`` at the latest. Those that are left out have no answer."""
    asked = {probe.what: _Asked(probe) for probe in probes}
    end = time.monotonic() + answer_s
    for one in asked.values():
        one.start(asked[one.probe.after] if one.probe.after is not None else None)
    return tuple(_answers(asked, end, answer_s))


def _answers(asked: dict[str, _Asked], end: float, answer_s: float) -> Iterator[Answer]:
    silent = set[str]()
    for name, one in asked.items():
        if one.probe.after in silent:
            continue
        if not one.done.wait(max(0.0, end - time.monotonic())):
            silent.add(name)
            probe = one.probe
            text = f"{probe.what}: {probe.where} does not answer within {answer_s:g} s; {probe.silent}"
            yield Answer(probe, error=NoAnswer(text))
        elif one.fault is not None:
            raise one.fault
        elif one.answer is not None:
            yield one.answer
