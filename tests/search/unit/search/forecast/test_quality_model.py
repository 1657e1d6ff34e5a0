"""The line from rung 0 to what a metric becomes by the fine-tune, and the error that it states."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.priors import WEAK, prior_of
from vitsearch.search.forecast.quality_model import FinishedTraining, QualityModel, RefittedModel

PRIOR = prior_of("accuracy")
KLS = (0.01, 0.04, 0.09, 0.25, 0.49, 1.0)


def on_a_line(offset, slope, backbone="vit"):
    return [FinishedTraining(RefittedModel(backbone, kl), -(offset + slope * math.sqrt(kl))) for kl in KLS]


def fitted(observed=()):
    return QualityModel.fit(observed, PRIOR)


def test_without_observations_the_prior_predicts():
    predicted = fitted().predict(RefittedModel("vit", 0.25))
    assert predicted.mean == pytest.approx(PRIOR.slope * 0.5)
    assert predicted.deviation > PRIOR.noise


def test_a_metric_of_which_nothing_was_measured_has_the_wider_error_and_learns_sooner():
    start, observed = RefittedModel("vit", 0.25), on_a_line(0.004, -0.12)
    assert prior_of("f1_macro") == WEAK
    before, after = (QualityModel.fit(trainings, WEAK).predict(start) for trainings in ([], observed))
    assert before.deviation > 2 * fitted().predict(start).deviation
    assert after.mean < fitted(observed).predict(start).mean < before.mean


def test_many_observations_outweigh_the_prior():
    model = fitted(on_a_line(0.004, -0.12) * 5)
    assert model.predict(RefittedModel("vit", 0.25)).mean == pytest.approx(-0.056, abs=0.003)


def test_light_cuts_alone_do_not_flatten_the_line():
    """Six trainings with next to no divergence once made an 88 % cut look perfect."""
    light = [FinishedTraining(RefittedModel("vit", 1e-4 * n), -0.002) for n in range(6)]
    heavy = fitted(light).predict(RefittedModel("vit", 0.748, 0.15))
    assert heavy.mean < -0.06
    assert heavy.deviation > 0.02


def test_a_backbone_has_an_offset_of_its_own():
    model = fitted(on_a_line(0.01, -0.07, "good") + on_a_line(-0.01, -0.07, "bad"))
    start = RefittedModel("good", 0.09)
    good, bad, unknown = (model.predict(RefittedModel(name, start.divergence)) for name in ("good", "bad", "new"))
    assert good.mean > unknown.mean > bad.mean
    assert unknown.deviation > good.deviation


def test_accuracy_that_is_lost_at_rung_0_counts_where_it_was_seen_to():
    observed = [
        FinishedTraining(RefittedModel("vit", 0.1, lost), 0.02 + 0.3 * lost) for lost in (0.0, 0.05, 0.1, 0.15, 0.2)
    ] * 4
    model = fitted(observed)
    kept, lost = (model.predict(RefittedModel("vit", 0.1, lost)).mean for lost in (0.0, 0.2))
    assert kept - lost > 0.03


def test_scatter_widens_the_stated_error():
    calm, wild = on_a_line(0.0, -0.07) * 3, on_a_line(0.0, -0.07) * 3
    wild = [
        FinishedTraining(training.start, training.drop + (0.03 if i % 2 else -0.03)) for i, training in enumerate(wild)
    ]
    narrow, wide = (fitted(trainings).predict(RefittedModel("vit", 0.25)).deviation for trainings in (calm, wild))
    assert wide > 2 * narrow


def test_the_intervals_hold_what_they_promise():
    """90 % intervals of lines that are drawn from the prior, with few and with many plans."""
    rng, inside = random.Random(0), []
    for _ in range(400):
        slope, offset = rng.gauss(PRIOR.slope, PRIOR.slope_error), rng.gauss(0.0, PRIOR.offset_error)
        starts = [RefittedModel("vit", rng.uniform(0.0, 0.8)) for _ in range(rng.choice((1, 4, 12)))]
        drops = [-(offset + slope * math.sqrt(start.divergence) + rng.gauss(0.0, PRIOR.noise)) for start in starts]
        model = fitted([FinishedTraining(*pair) for pair in zip(starts, drops, strict=True)])
        new = RefittedModel("vit", rng.uniform(0.0, 0.8))
        truth = offset + slope * math.sqrt(new.divergence) + rng.gauss(0.0, PRIOR.noise)
        predicted = model.predict(new)
        inside.append(abs(truth - predicted.mean) < 1.645 * predicted.deviation)
    assert 0.85 < sum(inside) / len(inside) < 0.95


@given(st.floats(0, 4), st.floats(0, 4))
def test_more_divergence_never_predicts_a_better_model_without_observations(a, b):
    low, high = (fitted().predict(RefittedModel("vit", kl)).mean for kl in sorted((a, b)))
    assert low >= high


def test_no_divergence_keeps_the_base():
    assert fitted().predict(RefittedModel("vit", -1e-9)).mean == pytest.approx(0.0)  # rounding


def test_what_few_images_say_is_believed_as_far_as_their_error_allows():
    """A recall of nine images says little: what it has lost counts a third, and its error is bounded."""
    model = QualityModel.fit([], WEAK)
    certain, few = (model.predict(RefittedModel("vit", 0.01, 0.2, error)) for error in (0.0, 0.15))
    assert few.mean > certain.mean
    assert few.deviation < math.hypot(certain.deviation, WEAK.lost * WEAK.lost_spread)


def test_the_noise_that_was_measured_has_the_error_of_the_images_already():
    model = QualityModel.fit([], PRIOR)
    assert model.predict(RefittedModel("vit", 0.01, 0.2, 0.15)) == model.predict(RefittedModel("vit", 0.01, 0.2))


def test_less_of_what_a_cut_lost_remains_after_a_longer_training():
    start = RefittedModel("vit", 0.0, 0.1)
    short, same, long = (QualityModel.fit([], PRIOR.after(images)) for images in (1024, 4096, 16384))
    assert same.predict(start) == fitted().predict(start)
    assert short.predict(start).mean == pytest.approx(-2 * PRIOR.lost * 0.1)
    assert long.predict(start).mean == pytest.approx(-PRIOR.lost / 2 * 0.1)


def test_a_training_of_a_few_images_wins_nothing_back_and_makes_nothing_worse():
    assert PRIOR.after(1).lost == 1.0


def test_a_metric_of_which_nothing_was_measured_is_believed_alike_after_any_training():
    assert WEAK.after(10**6) == WEAK
