"""What a run does now: in its view, and in the database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.progress import Lines
from vitsearch.core.activity import current
from vitsearch.core.stage import Stage
from vitsearch.pipeline.stage_clock import StageClock
from vitsearch.search.watch.current_activity import STORE_S, Now
from vitsearch.storage.ledger import Ledger, RunState

BASE = {"training a base: vit": "epoch 1/2, train accuracy 0.81, 40 s left"}


@pytest.fixture
def seconds():
    return [100.0]


@pytest.fixture
def context(fake_study, seconds):
    ledger = Ledger.open(fake_study.space.storage)
    ledger.costs.start_run("fake", 2)
    clock = StageClock(lambda: seconds[0])
    yield replace(fake_study.pipeline(ledger).context, progress=Lines(), clock=clock)
    ledger.close()


def stored(context) -> RunState:
    """As status of another machine reads it."""
    (run,) = context.ledger.inventory.live_runs("fake")
    return run.now


def test_the_base_that_is_trained_is_shown_and_known_to_status(context, seconds):
    now = Now(context, lambda: seconds[0])
    with context.stage(Stage.BASE, "vit"):
        current().text = BASE["training a base: vit"]
        seconds[0] += 10.0
        now.show(None)
    assert context.progress.does == [BASE]
    assert stored(context) == RunState(BASE)


def test_it_is_stored_again_when_it_has_changed_and_not_more_often_than_every_five_seconds(context, seconds):
    now = Now(context, lambda: seconds[0])
    for waits in ("waits for a", "waits for b"):
        now.show(waits)
    assert stored(context).waits == "waits for a"
    seconds[0] += STORE_S
    now.show("waits for b")
    assert stored(context).waits == "waits for b"


def test_a_database_that_is_away_ends_nothing(context, seconds, monkeypatch, warnings_of):
    def refuse(state):
        raise ConnectionError("refused")

    heard = warnings_of("vitsearch.search.watch.current_activity")
    monkeypatch.setattr(context.ledger.costs, "tell", refuse)
    Now(context, lambda: seconds[0]).show("waits for a")
    assert heard == ["the study could not store what this run does: refused"]
    assert context.progress.waits_for == ["waits for a"]
