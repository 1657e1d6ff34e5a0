"""What 'vitsearch retarget' prints, and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from vitsearch import api
from vitsearch.cli.app import app
from vitsearch.cli.results.retarget import lines
from vitsearch.study.retargeted import Fit, Prediction, Retargeted, Target


@pytest.fixture
def retargeted(plan) -> Retargeted:
    predictions = tuple(
        Prediction(number, plan, {"latency_ms_p50": 2.0}, {"latency_ms_p50": (1.8, 2.2)}, 0.01) for number in range(7)
    )
    fit = Fit("latency_ms_p50", 10, 0.031, 0.988, 0.9)
    left_out = {7: "no bf16", 8: "no bf16", 9: "no int8"}
    return Retargeted(Target("nano"), "physical", "confirm-1", None, {}, predictions, (fit,), left_out)


def test_it_says_how_good_its_predictions_are(retargeted):
    assert list(lines(retargeted))[:2] == [
        "Measured 0 of 7 models; nothing was trained.",
        "latency_ms_p50 of 10 measured graphs, each predicted from the others: median error 3.1%, Spearman 0.988, "
        "90% within their 95 % intervals",
    ]


def test_the_likeliest_of_the_predicted_models_are_shown_and_the_others_counted(retargeted):
    said = list(lines(retargeted))
    assert said[3] == ("  trial 0: fake_vit@28 fp32: latency_ms_p50 2 (1.8 to 2.2); 1% likely on the front")
    assert said[8] == "  and 2 more, which --json prints"


def test_models_are_left_out_once_for_each_reason(retargeted):
    assert list(lines(retargeted))[-2:] == ["Left out: trial 7, 8: no bf16", "Left out: trial 9: no int8"]


def test_ctrl_c_says_how_to_resume(finished, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitsearch.api.StoredStudy.retarget", stopped)
    done = CliRunner().invoke(app, ["retarget", str(finished.folder / "fake.db"), "--threads", "2"])
    assert done.exit_code == 130
    assert "Stopped; nothing is lost. Resume with: vitsearch" in done.output


def test_the_command_at_the_end_can_be_copied_and_has_no_password(finished, retargeted, monkeypatch):
    database = str(finished.folder / "fake.db")
    open_study = api.open_study
    monkeypatch.setattr(api, "open_study", lambda _: open_study(database))
    monkeypatch.setattr("vitsearch.api.StoredStudy.retarget", lambda *_: replace(retargeted, target=Target("a board")))
    monkeypatch.setattr("vitsearch.api.StoredStudy.front", lambda study, _=None: study)
    monkeypatch.setattr("vitsearch.cli.results.front.print_front", lambda _: None)
    done = CliRunner().invoke(app, ["retarget", "postgresql+psycopg://me:secret@db/vit#fake", "--device", "a board"])
    assert done.output.endswith(
        "The same front again: vitsearch front 'postgresql+psycopg://me:***@db/vit#fake' --device 'a board'\n"
    )
