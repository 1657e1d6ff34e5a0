"""Several observers as one."""

from __future__ import annotations

from contextlib import contextmanager
from inspect import getmembers, isfunction

import pytest

from vitsearch.core.stage import Stage
from vitsearch.pipeline.progress import Progress
from vitsearch.search.observers.progress_group import ProgressGroup


class Recorder:
    """Notes each call by its name and arguments."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))

    @contextmanager
    def stage(self, stage):
        self.calls.append(("stage", stage))
        yield
        self.calls.append(("left", stage))


ARGUMENTS = {
    "note": ("text",),
    "doing": ({"training a base: vit": "epoch 1/2"},),
    "waits": (None,),
    "counted": ("trained", 1, 2),
    "left": ("1 min left",),
    "earlier_trials": ({},),
    "started": (1, None),
    "ended": (1, None),
}


def test_every_call_of_the_protocol_is_tried():
    public = {name for name, _ in getmembers(Progress, isfunction) if not name.startswith("_")}
    assert public == ARGUMENTS.keys() | {"stage"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_call_reaches_each(name):
    recorders = Recorder(), Recorder()
    getattr(ProgressGroup(*recorders), name)(*ARGUMENTS[name])
    assert [recorder.calls for recorder in recorders] == [[(name, *ARGUMENTS[name])]] * 2


def test_a_stage_begins_and_ends_for_each():
    recorders = Recorder(), Recorder()
    with ProgressGroup(*recorders).stage(Stage.TRAIN):
        assert [recorder.calls for recorder in recorders] == [[("stage", Stage.TRAIN)]] * 2
    assert [recorder.calls[-1] for recorder in recorders] == [("left", Stage.TRAIN)] * 2
