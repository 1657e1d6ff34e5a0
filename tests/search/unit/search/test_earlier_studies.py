"""What the trainings of earlier studies make of the belief that a new study begins with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitsearch.core.priors import PRIOR_IMAGES, WEAK, prior_of
from vitsearch.search.earlier_studies import DIFFERENCE, EarlierStudy, learned
from vitsearch.search.forecast.calibration import CalibratedModel
from vitsearch.search.forecast.quality_model import FinishedTraining, RefittedModel

ACCURACY = prior_of("accuracy")


def study_of(slope=-0.04, lost=0.4, offset=0.0, noise=0.003, count=20, name="first", images=PRIOR_IMAGES):
    rng = np.random.default_rng(0)
    trainings = []
    for divergence in rng.uniform(0.01, 1.0, count):
        start = RefittedModel("vit", float(divergence), float(rng.uniform(0.0, 0.2)))
        gain = slope * math.sqrt(divergence) - lost * start.lost + offset + noise * float(rng.standard_normal())
        trainings.append(FinishedTraining(start, -gain))
    return EarlierStudy(name, images, {"accuracy": trainings})


def test_the_line_of_an_earlier_study_is_believed():
    belief = learned(ACCURACY, [study_of(slope=-0.08)], "accuracy")
    assert belief.slope == pytest.approx(-0.08, abs=0.01)
    assert belief.slope_error >= DIFFERENCE * ACCURACY.slope_error


def test_a_belief_that_nothing_was_measured_of_becomes_a_measured_one():
    belief = learned(WEAK, [study_of()], "accuracy")
    assert belief.is_measured
    assert belief.noise < WEAK.noise / 2
    assert belief.slope_error < WEAK.slope_error


def test_results_that_lay_beside_all_forecasts_widen_the_error_in_common_and_move_no_forecast():
    belief = learned(ACCURACY, [study_of(offset=-0.05)], "accuracy")
    assert belief.common_error > ACCURACY.common_error
    uncut = CalibratedModel.fit([], belief).predict(RefittedModel("swin", 0.0))
    assert uncut.mean == pytest.approx(0.0, abs=1e-9)


def test_a_study_with_shorter_trainings_says_what_usual_ones_would_leave():
    short = learned(ACCURACY, [study_of(lost=0.8, images=PRIOR_IMAGES // 4)], "accuracy")
    assert short.lost == pytest.approx(0.4, abs=0.06)


def test_a_metric_that_no_study_has_stays_as_it_was():
    belief = learned(ACCURACY, [EarlierStudy("first", PRIOR_IMAGES, {})], "accuracy")
    assert belief.slope == pytest.approx(ACCURACY.slope)
    assert belief.common_error == pytest.approx(ACCURACY.common_error)
