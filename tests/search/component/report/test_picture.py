"""The front as a picture."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from vitsearch.core.limits import Bound
from vitsearch.errors import StudyError
from vitsearch.report.picture import Axis, front_picture
from vitsearch.report.trials import FRONT

TEXT = "{http://www.w3.org/2000/svg}text"


def texts(report):
    root = ElementTree.fromstring(front_picture(report).to_svg())
    return [element.text for element in root.iter(TEXT)]


def test_every_model_of_the_front_is_named(report):
    numbers = {str(trial.number) for trial in report.trials if trial.group == FRONT}
    names = {text.removesuffix(" (knee)") for text in texts(report)}
    assert numbers <= names
    assert {"accuracy", "cpu_ms_p50", "baseline", f"{report.knee} (knee)"} <= set(texts(report))


def test_emulated_numbers_are_marked(report):
    assert texts(replace(report, emulated=True))[0].startswith("EMULATED: Pareto front of study fake: ")


def test_an_accuracy_without_labels_is_called_agreement(report):
    unlabelled = replace(report, labelled_by="their_net")
    assert texts(unlabelled)[0].endswith("; accuracy is agreement with their_net")
    assert "agreement with their_net" in ElementTree.fromstring(front_picture(unlabelled).to_svg()).get("aria-label")
    assert not any("agreement" in text for text in texts(report))


def test_a_limit_is_drawn_where_it_can_be_seen(report):
    assert "limit: accuracy >= 0.86" in texts(report)
    assert "limit: cpu_ms_p50 <= 1000" not in texts(replace(report, limits=(Bound("cpu_ms_p50", "<=", 1000.0),)))


def test_a_front_without_models_is_refused(report):
    empty = replace(report, trials=tuple(trial for trial in report.trials if not trial.is_model))
    with pytest.raises(StudyError) as error:
        front_picture(empty)
    assert str(error.value) == (
        "study 'fake' has no model within its limits yet, so there is no front to draw; see 'vitsearch status fake'"
    )


def test_a_wide_axis_is_logarithmic_and_has_round_ticks():
    axis = Axis("cpu_ms_p50", 0.1, 10.0, True, 0.0, 100.0)
    assert axis.at(1.0) == pytest.approx(50.0)
    assert axis.ticks() == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])


def test_a_narrow_axis_is_linear_and_has_round_ticks():
    axis = Axis("accuracy", 0.87, 0.93, False, 0.0, 100.0)
    assert axis.ticks() == pytest.approx([0.88, 0.9, 0.92])
