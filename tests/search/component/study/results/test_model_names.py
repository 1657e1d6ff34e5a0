"""Every command that takes one model takes its trial, `baseline` and `knee`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import vitsearch as vs
from vitsearch.cli.app import app
from vitsearch.errors import StudyError
from vitsearch.ship import ship
from vitsearch.ship.choice import Wanted
from vitsearch.study.results.model_names import number_of


@pytest.fixture
def stored(finished):
    return vs.open_study(finished.folder / "fake.db")


@pytest.fixture
def knee(stored):
    front = stored.front()
    return front.points[front.knee].trial


def test_a_model_is_named_by_trial_baseline_and_knee(stored, knee):
    assert [number_of(name, stored.front) for name in ("baseline", "knee", "3")] == [None, knee, 3]


@pytest.mark.parametrize("name", ["best", "-1", "1.5", "²"])
def test_another_name_is_refused_with_what_is_allowed(stored, name):
    with pytest.raises(StudyError) as caught:
        number_of(name, stored.front)
    assert str(caught.value) == f"{name!r} names no model; allowed: the number of a trial, baseline, knee"


def test_a_name_that_is_almost_one_has_the_nearest(stored):
    with pytest.raises(StudyError, match="'knne' names no model; did you mean 'knee'"):
        number_of("knne", stored.front)


def test_the_python_interface_takes_every_name(stored, knee):
    """`show("0")` answered "no finished trial 0; finished trials: 0 to 13"."""
    assert (
        stored.show("knee").point.trial == stored.show(str(knee)).point.trial == stored.show(knee).point.trial == knee
    )
    assert stored.show("baseline").point.trial is stored.show(None).point.trial is None
    assert stored.compare("baseline", "knee").second.trial == knee
    for method in (stored.show, stored.class_accuracies, lambda name: stored.compare(name, "knee")):
        with pytest.raises(StudyError, match="'kneee' names no model; did you mean 'knee'"):
            method("kneee")


@pytest.mark.parametrize(
    ("wanted", "message"), [(Wanted(), "neither"), (Wanted(0, "min cpu_ms_p50"), "both, 0 and 'min")]
)
def test_a_model_is_wanted_by_name_or_by_rule(stored, wanted, message):
    with pytest.raises(StudyError, match=message):
        stored.ship(wanted)


def test_a_study_without_a_feasible_model_has_no_knee(make_study):
    study = make_study(trials=1).with_space(limits={"accuracy": {"min": 0.999}})
    study.run()
    with pytest.raises(StudyError) as caught:
        number_of("knee", vs.open_study(study.folder / "fake.db").front)
    assert str(caught.value) == "study 'fake' has no knee: no model meets the limits"


def output(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_show_takes_every_name(stored, knee):
    assert output("show", stored.where, "baseline").startswith("Baseline of study fake\nfake_vit@28 fp32\n")
    assert output("show", stored.where, "knee") == output("show", stored.where, str(knee))


@pytest.mark.parametrize("name", ["baseline", "knee", "3"])
def test_ship_takes_every_name(stored, monkeypatch, name):
    class Asked(Exception):
        pass

    def asked(where, wanted, options, progress):
        raise Asked(wanted)

    monkeypatch.setattr(ship, "ship", asked)
    with pytest.raises(Asked) as caught:
        output("ship", stored.where, name)
    assert caught.value.args == (Wanted(name),)
