"""The line from rung 0 to the accuracy after the fine-tune, and the error that it states."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.search.forecast.accuracy_model import (
    NO_OBSERVATIONS,
    NOISE,
    OFFSET_ERROR,
    SLOPE,
    SLOPE_ERROR,
    AccuracyModel,
    FinishedTraining,
    RefittedModel,
)

KLS = (0.01, 0.04, 0.09, 0.25, 0.49, 1.0)


def on_a_line(offset, slope, backbone="vit"):
    return [FinishedTraining(RefittedModel(backbone, kl), -(offset + slope * math.sqrt(kl))) for kl in KLS]


def test_without_observations_the_prior_predicts():
    predicted = NO_OBSERVATIONS.predict(0.9, RefittedModel("vit", 0.25))
    assert predicted.accuracy == pytest.approx(0.9 + SLOPE * 0.5)
    assert predicted.deviation > NOISE
    assert AccuracyModel.fit([]).predict(0.9, RefittedModel("vit", 0.25)) == predicted


def test_many_observations_outweigh_the_prior():
    model = AccuracyModel.fit(on_a_line(0.004, -0.12) * 5)
    assert model.predict(0.9, RefittedModel("vit", 0.25)).accuracy == pytest.approx(0.844, abs=0.003)


def test_light_cuts_alone_do_not_flatten_the_line():
    """Six trainings with next to no divergence once made an 88 % cut look perfect."""
    light = [FinishedTraining(RefittedModel("vit", 1e-4 * n), -0.002) for n in range(6)]
    heavy = AccuracyModel.fit(light).predict(0.9, RefittedModel("vit", 0.748, 0.15))
    assert heavy.accuracy < 0.84
    assert heavy.deviation > 0.02


def test_a_backbone_has_an_offset_of_its_own():
    model = AccuracyModel.fit(on_a_line(0.01, -0.07, "good") + on_a_line(-0.01, -0.07, "bad"))
    start = RefittedModel("good", 0.09)
    good, bad, unknown = (model.predict(0.9, RefittedModel(name, start.kl)) for name in ("good", "bad", "new"))
    assert good.accuracy > unknown.accuracy > bad.accuracy
    assert unknown.deviation > good.deviation


def test_accuracy_that_is_lost_at_rung_0_counts_where_it_was_seen_to():
    observed = [
        FinishedTraining(RefittedModel("vit", 0.1, lost), 0.02 + 0.3 * lost) for lost in (0.0, 0.05, 0.1, 0.15, 0.2)
    ] * 4
    model = AccuracyModel.fit(observed)
    kept, lost = (model.predict(0.9, RefittedModel("vit", 0.1, lost)).accuracy for lost in (0.0, 0.2))
    assert kept - lost > 0.03


def test_scatter_widens_the_stated_error():
    calm, wild = on_a_line(0.0, -0.07) * 3, on_a_line(0.0, -0.07) * 3
    wild = [
        FinishedTraining(training.start, training.drop + (0.03 if i % 2 else -0.03)) for i, training in enumerate(wild)
    ]
    narrow, wide = (
        AccuracyModel.fit(trainings).predict(0.9, RefittedModel("vit", 0.25)).deviation for trainings in (calm, wild)
    )
    assert wide > 2 * narrow


def test_the_intervals_hold_what_they_promise():
    """90 % intervals of lines that are drawn from the prior, with few and with many plans."""
    rng, inside = random.Random(0), []
    for _ in range(400):
        slope, offset = rng.gauss(SLOPE, SLOPE_ERROR), rng.gauss(0.0, OFFSET_ERROR)
        starts = [RefittedModel("vit", rng.uniform(0.0, 0.8)) for _ in range(rng.choice((1, 4, 12)))]
        drops = [-(offset + slope * math.sqrt(start.kl) + rng.gauss(0.0, NOISE)) for start in starts]
        model = AccuracyModel.fit([FinishedTraining(*pair) for pair in zip(starts, drops, strict=True)])
        new = RefittedModel("vit", rng.uniform(0.0, 0.8))
        truth = 0.5 + offset + slope * math.sqrt(new.kl) + rng.gauss(0.0, NOISE)
        predicted = model.predict(0.5, new)
        inside.append(abs(truth - predicted.accuracy) < 1.645 * predicted.deviation)
    assert 0.85 < sum(inside) / len(inside) < 0.95


@given(st.floats(0, 4), st.floats(0, 4))
def test_more_divergence_never_predicts_more_accuracy_without_observations(a, b):
    low, high = (NO_OBSERVATIONS.predict(0.9, RefittedModel("vit", kl)).accuracy for kl in sorted((a, b)))
    assert low >= high


def test_no_divergence_keeps_the_base_and_nothing_is_above_one():
    assert NO_OBSERVATIONS.predict(0.9, RefittedModel("vit", -1e-9)).accuracy == pytest.approx(0.9)  # rounding
    assert AccuracyModel.fit(on_a_line(0.2, 0.0) * 20).predict(0.99, RefittedModel("vit", 0.0)).accuracy == 1.0
