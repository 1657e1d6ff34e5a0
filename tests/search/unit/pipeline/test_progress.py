"""Plain lines: one for each thing that ended."""

from __future__ import annotations

import io

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Record
from vitsearch.pipeline import progress
from vitsearch.pipeline.progress import PlainLines, describe


def test_a_trial_is_one_line_with_what_came_out(plan):
    stream = io.StringIO()
    lines = PlainLines(("accuracy", "cpu_ms_p50"), stream)
    lines.ended(7, Record("confirmed", plan, metrics=Metrics.of({"accuracy": 0.91, "cpu_ms_p50": 1.25})), 3, 12)
    (line,) = stream.getvalue().splitlines()
    assert "trial   7  confirmed" in line
    assert "accuracy 0.91  cpu_ms_p50 1.25" in line
    assert line.endswith("[3/12 trained]")


def test_a_model_that_predicts_one_class_only_is_named(plan):
    metrics = Metrics.of({"accuracy": 0.1}, notes={"accuracy": "the model predicts one class only, 'Shirt'"})
    assert "accuracy 0.1  the model predicts one class only, 'Shirt'" in describe(
        Record("confirmed", plan, metrics=metrics), ("accuracy",)
    )


def test_waiting_is_a_line_at_once_and_every_five_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    lines = PlainLines((), stream)
    for now[0] in (20.0, 21.0, 300.0, 321.0, 322.0):
        lines.waits(f"since {now[0]:g}")
    lines.waits(None)
    now[0] = 330.0
    lines.waits("once more")
    assert [line.partition(" s  ")[2] for line in stream.getvalue().splitlines()] == [
        "since 20",
        "since 321",
        "once more",
    ]


def test_a_duplicate_names_the_other_trial(plan):
    assert describe(Record("confirmed", plan, duplicate_of=3), ()).startswith("duplicate ")


def test_what_was_not_measured_is_left_out(plan):
    assert "energy_mj" not in describe(
        Record("dominated", plan, metrics=Metrics.of({"energy_mj": None})), ("energy_mj",)
    )
