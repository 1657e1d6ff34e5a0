"""OpenTelemetry spans of trials and stages, where its API is installed. Who configures an exporter gets them.

A trial is the root of a trace of its own, with its stages below it: a trace of a whole run would show nothing until the
run has ended. A stage that belongs to no trial is a root too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.pipeline.progress import Progress, Silent, current_trial

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Status, Tracer

SCOPE = "vitsearch"


def traces(study: str) -> Progress:
    """The observer that makes spans of a study; one that does nothing where OpenTelemetry is not installed."""
    try:
        from opentelemetry import trace  # optional
    except ImportError:
        return Silent()
    return Traces(trace.get_tracer(SCOPE), study)


class Traces(Silent):
    """Spans are not made current: what a worker does is not in this process."""

    def __init__(self, tracer: Tracer, study: str) -> None:
        self._tracer = tracer
        self._study = study
        self._trials: dict[int, Span] = {}

    def started(self, number: int, plan: Plan) -> None:
        attributes = {f"{SCOPE}.study": self._study, f"{SCOPE}.trial": number, f"{SCOPE}.plan": plan_text(plan)}
        self._trials[number] = self._tracer.start_span("trial", attributes=attributes)

    def ended(self, number: int, record: Record) -> None:
        if number not in self._trials:  # its record was known
            self.started(number, record.plan)
        span = self._trials.pop(number)
        span.set_attribute(f"{SCOPE}.outcome", record.outcome)
        if record.outcome == "failed":
            span.set_status(_failed(record.reason))
        span.end()

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        from opentelemetry.trace import set_span_in_context  # optional

        number = current_trial.get()
        of_trial = {} if number is None else {f"{SCOPE}.trial": number}
        parent = None if number is None else self._trials.get(number)
        span = self._tracer.start_span(
            stage.value,
            context=None if parent is None else set_span_in_context(parent),
            attributes={f"{SCOPE}.study": self._study, f"{SCOPE}.stage": stage.value, **of_trial},
        )
        try:
            yield
        except Exception as error:
            span.record_exception(error)
            span.set_status(_failed(str(error)))
            raise
        finally:
            span.end()


def _failed(reason: str) -> Status:
    from opentelemetry.trace import Status, StatusCode  # optional

    return Status(StatusCode.ERROR, reason)
