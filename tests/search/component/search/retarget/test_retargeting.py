"""The models of a finished study on another device: measured in an order that finds its front, and never trained."""

from __future__ import annotations

from vitsearch.core.stage import Stage
from vitsearch.study.front import read_front
from vitsearch.study.retargeted import Target


def front_of(moved, device="nano"):
    with moved.study.opened() as (study, ledger):
        return read_front(study, ledger, device)


def test_the_front_is_that_of_all_models(moved):
    moved.retarget()
    early = {point.trial for point in front_of(moved).points}
    found = moved.retarget(every=True)
    print(len(found.models), found.fits, early)
    assert {point.trial for point in front_of(moved).points} == early


def test_nothing_is_trained(moved):
    before = dict(moved.study.runner.made)
    found = moved.retarget()
    print(len(found.models), len(found.predictions), found.fits, found.left_out)
    print(moved.board.measured, before, moved.study.runner.made)
    made = moved.study.runner.made
    assert (made[Stage.TRAIN], made[Stage.BASE]) == (before[Stage.TRAIN], before[Stage.BASE])
