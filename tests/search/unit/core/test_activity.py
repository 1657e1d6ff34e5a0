"""What a piece of work tells of itself."""

from __future__ import annotations

import threading

import pytest

from vitsearch.core import activity
from vitsearch.core.activity import Activity, Work, current, doing, duration


def at(monkeypatch, now):
    monkeypatch.setattr(activity.time, "monotonic", lambda: now[0])


def test_a_wait_is_named_after_ten_seconds(monkeypatch):
    now, work = [0.0], Work()
    at(monkeypatch, now)
    with work.awaiting("files s3://team/vit"):
        now[0] = 9.0
        assert work.activity == Activity()
        now[0] = 12.0
        assert work.activity == Activity(awaits="waits for files s3://team/vit, 12 s so far")
    assert work.activity == Activity()


def test_a_wait_whose_reason_is_known_is_named_at_once(monkeypatch):
    at(monkeypatch, [5.0])
    work = Work()
    with work.awaiting("files s3://team/vit") as awaited:
        awaited.why = "connection refused"
        assert work.activity.awaits == "waits for files s3://team/vit, 0 s so far: connection refused"


def test_of_two_waits_the_one_with_a_reason_is_named(monkeypatch):
    now, work = [0.0], Work()
    at(monkeypatch, now)
    with work.awaiting("a free worker"), work.awaiting("the head", "refused"):
        now[0] = 12.0
        assert work.activity.awaits == "waits for the head, 12 s so far: refused"


def test_what_a_worker_elsewhere_tells_counts_as_the_work():
    work = Work()
    work.elsewhere = Activity("epoch 1/2", "waits for files s3://team/vit, 12 s so far")
    assert work.activity == work.elsewhere


def test_work_is_known_to_what_runs_inside_it_alone():
    work = Work()
    with doing(work):
        assert current() is work
        seen = []
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
        assert seen != [work]
    assert current() is not work


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.0, "59 s"), (60.0, "1 min"), (3599.0, "59 min"), (7500.0, "2 h 5 min")]
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text
