"""What is under way, and for how long nothing has ended."""

from __future__ import annotations

import pytest

from vitsearch.core.activity import current
from vitsearch.core.stage import Stage
from vitsearch.pipeline.stage_clock import StageClock


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def clock(now) -> StageClock:
    return StageClock(lambda: now[0])


def test_the_longest_of_each_running_stage_counts(clock, now):
    with clock.running(Stage.TRAIN):
        now[0] = 110.0
        with clock.running(Stage.TRAIN), clock.running(Stage.MEASURE):
            now[0] = 115.0
            assert clock.ages_s() == {Stage.TRAIN: 15.0, Stage.MEASURE: 5.0}


def test_who_waits_for_another_run_is_quiet_with_nothing_under_way(clock, now):
    now[0] += 60.0
    assert (clock.quiet_s(), clock.quiet_s(waits=True)) == (0.0, 60.0)


def test_it_is_quiet_since_the_last_end(clock, now):
    with clock.running(Stage.TRAIN):
        now[0] = 160.0
        assert clock.quiet_s() == 60.0
        with clock.running(Stage.MEASURE):
            pass
        assert clock.quiet_s() == 0.0


def test_a_run_with_nothing_to_do_is_not_quiet(clock, now):
    now[0] = 1000.0
    assert clock.quiet_s() == 0.0
    with clock.running(Stage.TRAIN):
        assert clock.quiet_s() == 0.0


def test_the_longest_duration_of_each_stage_is_kept(clock, now):
    for seconds in (5.0, 30.0, 10.0):
        with clock.running(Stage.EXPORT):
            now[0] += seconds
    assert clock.longest_s == {Stage.EXPORT: 30.0}


def test_a_long_stage_is_named_with_how_far_it_is(clock, now):
    with clock.running(Stage.BASE, "tiny_vit_5m_224"):
        current().text = "epoch 2/5, train accuracy 0.81, 40 s left"
        now[0] += 9.0
        assert clock.long_stages() == {}
        now[0] += 1.0
        assert clock.long_stages() == {"training a base: tiny_vit_5m_224": "epoch 2/5, train accuracy 0.81, 40 s left"}
    assert clock.long_stages() == {}


def test_a_long_stage_that_tells_nothing_is_named_with_its_age(clock, now):
    with clock.running(Stage.DATA):
        now[0] += 75.0
        assert clock.long_stages() == {"preparing the data": "for 1 min"}


def test_what_a_stage_or_the_run_itself_waits_for_is_known(clock):
    with clock.running(Stage.EXPORT), current().awaiting("files s3://team/vit", "refused"):
        assert clock.awaited() == "waits for files s3://team/vit, 0 s so far: refused"
    assert clock.awaited() is None
    with clock.run.awaiting("files s3://team/vit", "refused"):
        assert clock.awaited() is not None
