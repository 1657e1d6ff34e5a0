"""Spans of trials and stages, in the SDK's own exporter."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from vitsearch.errors import StageError
from vitsearch.pipeline.progress import Silent
from vitsearch.search.observers.traces import Traces, traces
from vitsearch.stages import TrainJob
from vitsearch.testing.fakes import FakeRunner


@dataclass
class Exported:
    traces: Traces
    spans: InMemorySpanExporter

    def named(self, name):
        return [span for span in self.spans.get_finished_spans() if span.name == name]


@pytest.fixture
def exported():
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Exported(Traces(provider.get_tracer("test"), "fake"), spans)


def test_each_trial_is_a_span_with_its_outcome(exported, run_with):
    records = run_with(exported.traces).records()
    spans = {span.attributes["vitsearch.trial"]: span for span in exported.named("trial")}
    assert {number: span.attributes["vitsearch.outcome"] for number, span in spans.items()} == {
        number: record.outcome for number, record in records.items()
    }
    assert all(span.parent is None for span in spans.values())
    assert {span.attributes["vitsearch.study"] for span in spans.values()} == {"fake"}


def test_a_stage_is_below_its_trial(exported, run_with):
    records = run_with(exported.traces).records()
    (trained,) = exported.named("train")
    number = trained.attributes["vitsearch.trial"]
    assert records[number].was_trained
    (trial,) = [span for span in exported.named("trial") if span.attributes["vitsearch.trial"] == number]
    assert trained.parent.span_id == trial.context.span_id
    assert trial.start_time <= trained.start_time <= trained.end_time <= trial.end_time


def test_a_stage_of_no_trial_is_a_trace_of_its_own(exported, run_with):
    run_with(exported.traces)
    (base,) = exported.named("base")
    assert base.parent is None
    assert "vitsearch.trial" not in base.attributes


@pytest.mark.long
def test_a_stage_that_fails_is_an_error_and_so_is_its_trial(exported, run_with):
    def fail(job):
        if isinstance(job, TrainJob):
            raise StageError("train", "crash", "no more")

    run_with(exported.traces, runner=FakeRunner(before=fail))
    stage = exported.named("train")[0]
    number = stage.attributes["vitsearch.trial"]
    (trial,) = [span for span in exported.named("trial") if span.attributes["vitsearch.trial"] == number]
    for span in (stage, trial):
        assert span.status.status_code == StatusCode.ERROR
        assert span.status.description == "training failed (crash): no more"


def test_without_opentelemetry_nothing_is_done(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert isinstance(traces("fake"), Silent)
    assert not isinstance(traces("fake"), Traces)


def test_without_an_exporter_a_run_is_as_before(run_with):
    assert run_with(traces("fake")).trained == 1
