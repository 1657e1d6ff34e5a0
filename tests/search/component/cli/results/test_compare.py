"""The output of `vitsearch compare`."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import vitsearch as vs
from support.terminal import shown
from vitsearch.cli.results.compare import compare, print_comparison
from vitsearch.cli.tables import RUN_OF_IMAGES


@pytest.fixture
def stored(finished):
    return vs.open_study(finished.folder / "fake.db")


@pytest.mark.long
def test_models_are_named_by_trial_baseline_and_knee(stored, capsys):
    knee = stored.front().points[stored.front().knee]
    compare(stored, "baseline", "knee", paired=False, as_json=False)
    text = capsys.readouterr().out
    assert text.startswith("A: baseline: fake_vit@28 fp32\n")
    assert f"B: {knee.name}: " in text


def test_knobs_and_metrics_stand_below_each_other(stored):
    comparison = stored.compare(None, stored.front().points[0].trial)
    text = shown(print_comparison, comparison, width=100)
    assert re.search(r"^metric +A +B +B/A +better$", text, re.MULTILINE)
    assert re.search(r"^knob +A +B$", text, re.MULTILINE)
    assert "B/A with its 95 % interval; for shares of images, B - A." in text
    assert "--paired counts them" in text


def test_times_of_several_images_are_explained(stored):
    comparison = stored.compare(None, stored.front().points[0].trial)
    deployment = replace(comparison.second.plan.deployment, batch=8)
    plan = replace(comparison.second.plan, deployments=(deployment,))
    of_eight = replace(comparison, second=replace(comparison.second, plan=plan))
    assert RUN_OF_IMAGES in shown(print_comparison, of_eight, width=200)
    assert RUN_OF_IMAGES not in shown(print_comparison, comparison, width=200)


def test_a_model_beside_itself_differs_in_no_knob(stored):
    trial = stored.front().points[0].trial
    text = shown(print_comparison, stored.compare(trial, trial))
    assert "All knobs are equal." in text
    assert "is better in" not in text


def test_what_was_emulated_is_marked(stored):
    comparison = replace(stored.compare(None, stored.front().points[0].trial), emulated=True)
    assert shown(print_comparison, comparison).startswith(
        "EMULATED: the times are those of an emulated device\nA: baseline"
    )
