"""What a run shows while it goes."""

from __future__ import annotations

import io

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


def shown(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(view)
    return console.export_text()


def test_the_view_shows_stages_and_the_front_without_dominated_points(plan):
    view = LiveView(("accuracy", "cpu_ms_p50"), wanted=4)
    view.ended(1, confirmed(plan, 0.9, 2.0), trained=1, wanted=4)
    view.ended(2, confirmed(plan, 0.8, 3.0), trained=2, wanted=4)
    with view.stage(Stage.TRAIN), view.stage(Stage.TRAIN), view.stage(Stage.MEASURE):
        text = shown(view)
    assert "front so far: 1" in text
    assert "train x2, measure" in text
    assert "2/4" in text


def test_a_stage_that_ended_is_not_shown(plan):
    view = LiveView(("accuracy", "cpu_ms_p50"), wanted=4)
    with view.stage(Stage.MEASURE):
        pass
    assert "running: nothing" in shown(view)


def test_what_the_run_waits_for_is_shown_while_it_does():
    view = LiveView(("accuracy", "cpu_ms_p50"), wanted=4)
    view.waits("waits for device nano, no answer for 3 min: refused")
    assert "\nwaits for device nano, no answer for 3 min: refused\n" in shown(view)
    view.waits(None)
    assert "waits" not in shown(view)


def test_no_terminal_means_plain_lines(fake_study):
    space: SearchSpace = fake_study.space
    with live.progress(space, plain=True) as progress:
        assert isinstance(progress, PlainLines)


def test_notes_are_printed_literally(capsys):
    LiveView(("accuracy", "cpu_ms_p50"), 2).note("no such file [/home/ada/model.onnx]")
    assert "[/home/ada/model.onnx]" in capsys.readouterr().out


HOSTILE = "node evil\x1b[2J\ntrial   9  confirmed"
VISIBLE = "node evil\\x1b[2J\\ntrial   9  confirmed"


def test_texts_from_outside_stay_on_their_line_and_are_visible(capsys, plan):
    view = LiveView(("accuracy", "cpu_ms_p50"), 2)
    view.note(HOSTILE)
    view.ended(3, Record("failed", plan, reason=HOSTILE), trained=0, wanted=2)
    view.waits(HOSTILE)
    view.console.print(view)
    PlainLines(("accuracy",)).note(HOSTILE)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count(" ".join(VISIBLE.split())) == 4
    assert "\x1b" not in shown
