"""What a run shows while it goes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vitsearch.cli import live
from vitsearch.cli.live import LiveView
from vitsearch.core.figures import Metrics
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.pipeline.progress import PlainLines
from vitsearch.space import SearchSpace


def confirmed(plan, accuracy: float, cost: float) -> Record:
    return Record("confirmed", plan, metrics=Metrics.of({"accuracy": accuracy, "cpu_ms_p50": cost}))


def shown(view: LiveView, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    view.console = console
    console.print(view)
    return console.export_text()


@pytest.fixture
def view() -> LiveView:
    return LiveView(("accuracy", "cpu_ms_p50"))


def test_the_view_shows_stages_and_the_front_without_dominated_points(plan, view):
    view.ended(1, confirmed(plan, 0.9, 2.0))
    view.ended(2, confirmed(plan, 0.8, 3.0))
    with view.stage(Stage.TRAIN), view.stage(Stage.TRAIN), view.stage(Stage.BLOCK_STRUCTURE):
        text = shown(view)
    assert "front so far: 1" in text
    assert "now: training x2, scoring heads and channels\n" in text


def test_a_stage_that_ended_is_not_shown(view):
    with view.stage(Stage.MEASURE):
        pass
    assert "now" not in shown(view)


def test_a_long_stage_is_shown_with_its_time(view, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    with view.stage(Stage.TRAIN):
        now[0] = 125.0
        assert "now: training (2 min)\n" in shown(view)


def test_bases_leaderboard_rows_and_trainings_are_counted(view):
    for what, done, wanted in (("bases", 2, 3), ("leaderboard", 5, 12), ("trained", 0, 14)):
        view.counted(what, done, wanted)
    assert [line.split()[0] + " " + line.split()[-1] for line in shown(view).splitlines() if "/" in line] == [
        "bases 2/3",
        "leaderboard 5/12",
        "trained 0/14",
    ]


def test_the_time_left_stands_beside_the_time_elapsed(view):
    view.left("about 4 to 7 min left")
    assert "0 s elapsed, about 4 to 7 min left\n" in shown(view)


def test_a_resumed_run_shows_the_front_of_the_runs_before(plan, view, capsys):
    view.earlier_trials({1: confirmed(plan, 0.9, 2.0), 2: confirmed(plan, 0.8, 3.0)})
    assert "known from earlier runs: 2 trials" in capsys.readouterr().out
    assert "front so far: 1" in shown(view)


def test_no_line_of_a_narrow_view_is_cut(plan, view):
    for what, done, wanted in (("bases", 2, 3), ("leaderboard", 5, 12), ("trained", 0, 14)):
        view.counted(what, done, wanted)
    view.left("time left: not known before the first training has ended")
    with view.stage(Stage.LOGITS), view.stage(Stage.TRAIN_INT8), view.stage(Stage.SCREEN), view.stage(Stage.SCREEN):
        text = shown(view, width=80)
    assert " ".join(text.split()).endswith("elapsed, time left: not known before the first training has ended")
    assert "12" in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_the_run_waits_for_is_shown_while_it_does(view):
    view.waits("waits for device nano, no answer for 3 min: refused")
    assert "waits for device nano, no answer for 3 min: refused\n" in shown(view)
    view.waits(None)
    assert "waits" not in shown(view)


def test_a_stage_that_takes_long_says_how_far_it_is_once(view):
    with view.stage(Stage.BASE), view.stage(Stage.EXPORT):
        view.doing({"training a base: vit_tiny": "epoch 2/5, train accuracy 0.81, 40 s left"})
        text = shown(view, width=80)
    assert "now: exporting\n" in text
    assert "  training a base: vit_tiny, epoch 2/5, train accuracy 0.81, 40 s left\n" in text


def test_no_terminal_means_plain_lines(fake_study):
    space: SearchSpace = fake_study.space
    with live.progress(space, plain=True) as progress:
        assert isinstance(progress, PlainLines)


def test_notes_are_printed_literally(capsys, view):
    view.note("no such file [/home/ada/model.onnx]")
    assert "[/home/ada/model.onnx]" in capsys.readouterr().out


HOSTILE = "node evil\x1b[2J\ntrial   9  confirmed"
VISIBLE = "node evil\\x1b[2J\\ntrial   9  confirmed"


def test_texts_from_outside_stay_on_their_line_and_are_visible(capsys, plan):
    view = LiveView(("accuracy", "cpu_ms_p50"))
    view.note(HOSTILE)
    view.ended(3, Record("failed", plan, reason=HOSTILE))
    view.waits(HOSTILE)
    view.console.print(view)
    PlainLines(("accuracy",)).note(HOSTILE)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count(" ".join(VISIBLE.split())) == 4
    assert "\x1b" not in shown
