"""Plain lines: one for each thing that ended."""

from __future__ import annotations

import io

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Record
from vitsearch.pipeline import progress
from vitsearch.pipeline.progress import PlainLines, describe


def notes(stream: io.StringIO) -> list[str]:
    """The lines without the seconds before them."""
    return [line.partition(" s  ")[2] for line in stream.getvalue().splitlines()]


def test_a_trial_is_one_line_with_what_came_out(plan):
    stream = io.StringIO()
    lines = PlainLines(("accuracy", "cpu_ms_p50"), stream)
    lines.counted("trained", 3, 12)
    lines.ended(7, Record("confirmed", plan, metrics=Metrics.of({"accuracy": 0.91, "cpu_ms_p50": 1.25})))
    (line,) = stream.getvalue().splitlines()
    assert "trial   7  confirmed" in line
    assert "accuracy 0.91  cpu_ms_p50 1.25" in line
    assert line.endswith("[3/12 trained]")


def test_a_model_that_predicts_one_class_only_is_named(plan):
    metrics = Metrics.of({"accuracy": 0.1}, notes={"accuracy": "the model predicts one class only, 'Shirt'"})
    assert "accuracy 0.1  the model predicts one class only, 'Shirt'" in describe(
        Record("confirmed", plan, metrics=metrics), ("accuracy",)
    )


def test_a_trial_is_followed_by_the_time_left(plan):
    stream = io.StringIO()
    lines = PlainLines((), stream)
    lines.counted("trained", 3, 12)
    lines.left("about 4 to 7 min left")
    lines.ended(7, Record("confirmed", plan))
    assert stream.getvalue().endswith("[3/12 trained, about 4 to 7 min left]\n")


def test_bases_and_leaderboard_rows_are_counted_from_the_start():
    stream = io.StringIO()
    lines = PlainLines((), stream)
    for what, done in (("bases", 0), ("leaderboard", 0), ("bases", 1), ("bases", 1), ("leaderboard", 1)):
        lines.counted(what, done, 3)
    assert notes(stream) == ["bases 0/3", "leaderboard 0/3", "bases 1/3", "leaderboard 1/3"]


def test_what_earlier_runs_found_is_one_line(plan):
    stream = io.StringIO()
    lines = PlainLines(("accuracy", "cpu_ms_p50"), stream)
    lines.counted("trained", 2, 12)
    lines.left("about 4 to 7 min left")
    values = {1: (0.9, 2.0), 2: (0.8, 3.0)}
    trained = {
        number: Record("confirmed", plan, metrics=Metrics.of({"accuracy": accuracy, "cpu_ms_p50": cost}))
        for number, (accuracy, cost) in values.items()
    }
    lines.earlier_trials({**trained, 3: Record("dominated", plan)})
    assert notes(stream) == ["known from earlier runs: 3 trials, front of 1  [2/12 trained, about 4 to 7 min left]"]


def test_waiting_is_a_line_at_once_and_every_five_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    lines = PlainLines((), stream)
    for now[0] in (20.0, 21.0, 300.0, 321.0, 322.0):
        lines.waits(f"since {now[0]:g}")  # the time changes, and it is the same wait
    lines.waits(None)
    now[0] = 330.0
    lines.waits("once more")
    assert notes(stream) == ["since 20", "since 321", "once more"]


def test_a_wait_for_something_else_is_a_line_of_its_own():
    stream = io.StringIO()
    lines = PlainLines((), stream)
    for awaited in ("files s3://team/vit", "device nano"):
        lines.waits(f"waits for {awaited}, 12 s so far")
    assert notes(stream) == ["waits for files s3://team/vit, 12 s so far", "waits for device nano, 12 s so far"]


def test_each_stage_that_takes_long_is_a_line_at_once_and_every_half_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    lines = PlainLines((), stream)
    for now[0] in (10.0, 11.0, 39.0, 40.0):
        lines.doing({"training a base: vit": f"epoch {now[0]:g}"})
    now[0] = 41.0
    lines.doing({"training a base: vit": "epoch 41", "exporting: trial 3": "for 10 s"})
    assert notes(stream) == [
        "training a base: vit, epoch 10",
        "training a base: vit, epoch 40",
        "exporting: trial 3, for 10 s",
    ]


def test_a_duplicate_names_the_other_trial(plan):
    assert describe(Record("confirmed", plan, duplicate_of=3), ()).startswith("duplicate ")


def test_what_was_not_measured_is_left_out(plan):
    assert "energy_mj" not in describe(
        Record("dominated", plan, metrics=Metrics.of({"energy_mj": None})), ("energy_mj",)
    )
