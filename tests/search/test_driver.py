"""The search from baseline to front, between two fakes."""

from __future__ import annotations

from vitsearch.front import read_front


def test_a_run_trains_what_the_file_asks_for_and_ends_with_a_front(fake_study):
    ended = fake_study.run()
    front = read_front(fake_study.study(), fake_study.ledger())
    records = fake_study.study().records().values()
    assert ended.complete
    assert sum(record.trained for record in records) == 8
    assert fake_study.study().unfinished() == 0
    assert len(front.points) >= 3
    assert all(point.feasible for point in front.points)


def test_a_second_run_makes_nothing_new(fake_study):
    fake_study.run()
    before = dict(fake_study.runner.made), dict(fake_study.device.measured)
    assert fake_study.run().complete
    assert (dict(fake_study.runner.made), dict(fake_study.device.measured)) == before


def test_each_stage_is_made_once(fake_study):
    fake_study.run()
    made = fake_study.runner.made
    assert made["prepare_base"] == 1
    assert made["study_anatomy"] == 2  # one for each resolution
    assert made["cache_logits"] == 2  # validation and training images
    assert made["train_rung"] == 8
    assert made["export_artifact"] == 8 + 1  # and the baseline
