"""Asking several things at once whether they work, each for some seconds at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vitsearch.errors import NoAnswer, VitsearchError

TICK_S = 0.02


@dataclass(frozen=True)
class Probe:
    """How something that a run needs is tried: `ask` returns what it found, for a person, or raises a
    `VitsearchError` that says what to do.

    `silent` is what to do where it does not answer at all. A probe `after` another one begins when that has
    answered, and is left out when it has not. Of the probes that are `one_of` some, one has to succeed.
    """

    what: str
    where: str
    ask: Callable[[], str]
    silent: str
    after: str | None = None
    one_of: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came of a probe: what was answered, or its error."""

    probe: Probe
    text: str | None = None
    error: VitsearchError | None = None

    def describe(self) -> str:
        return f"{self.probe.what}: {self.probe.where}: {self.text}"


@dataclass
class _ProbeRun:
    """A probe in its thread, which is left alone if it never answers."""

    probe: Probe
    after: _ProbeRun | None
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    fault: Exception | None = None
    began_at: float | None = None

    @property
    def has_succeeded(self) -> bool:
        return self.done.is_set() and self.answer is not None and self.answer.text is not None

    def start(self) -> None:
        threading.Thread(target=self._ask, daemon=True, name=f"probe-{self.probe.what}").start()

    def _ask(self) -> None:
        try:
            if self.after is not None:
                self.after.done.wait()
                if not self.after.has_succeeded:
                    return
            self.answer = Answer(self.probe, text=self.probe.ask())
        except VitsearchError as error:
            self.answer = Answer(self.probe, error=error)
        except Exception as fault:  # noqa: BLE001 - raised again where the answers are awaited
            self.fault = fault
        finally:
            self.done.set()

    def is_awaited(self, now: float, answer_s: float) -> bool:
        """Whether it may answer yet."""
        if self.done.is_set() or (self.after is not None and not self.after.has_succeeded):
            return False
        if self.began_at is None:
            self.began_at = now
        return now - self.began_at < answer_s


def ask_all(probes: Sequence[Probe], answer_s: float) -> tuple[Answer, ...]:
    """Ask all at the same time, each for `answer_s` at most. Those that are left out have no answer. A probe is named
    before the ones that come after it.

    Time counts while this process runs: on a busy machine it gets no processor for a part of it, and neither does what
    it asks there.
    """
    runs: dict[str, _ProbeRun] = {}
    for probe in probes:
        runs[probe.what] = _ProbeRun(probe, None if probe.after is None else runs[probe.after])
    for run in runs.values():
        run.start()
    now = 0.0
    while [run for run in runs.values() if run.is_awaited(now, answer_s)]:  # each of them learns the time
        time.sleep(TICK_S)
        now += TICK_S
    return tuple(answer for run in runs.values() if (answer := _answer(run, answer_s)) is not None)


def _answer(run: _ProbeRun, answer_s: float) -> Answer | None:
    probe = run.probe
    if run.done.is_set():
        if run.fault is not None:
            raise run.fault
        return run.answer
    if run.after is not None and not run.after.has_succeeded:
        return None
    text = f"{probe.what}: {probe.where} does not answer within {answer_s:g} s; {probe.silent}"
    return Answer(probe, error=NoAnswer(text))
