"""Several observers of a run as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from vitsearch.core.plan import Plan
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.pipeline.progress import Progress


class ProgressGroup:
    """Reports everything to each of its observers, in their order."""

    def __init__(self, *observers: Progress) -> None:
        self._observers = observers

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        with ExitStack() as running:
            for observer in self._observers:
                running.enter_context(observer.stage(stage))
            yield

    def note(self, text: str) -> None:
        for observer in self._observers:
            observer.note(text)

    def doing(self, stages: Mapping[str, str]) -> None:
        for observer in self._observers:
            observer.doing(stages)

    def waits(self, text: str | None) -> None:
        for observer in self._observers:
            observer.waits(text)

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        for observer in self._observers:
            observer.counted(what, done, wanted)

    def left(self, text: str) -> None:
        for observer in self._observers:
            observer.left(text)

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        for observer in self._observers:
            observer.earlier_trials(records)

    def started(self, number: int, plan: Plan) -> None:
        for observer in self._observers:
            observer.started(number, plan)

    def ended(self, number: int, record: Record) -> None:
        for observer in self._observers:
            observer.ended(number, record)
