"""Two models compared: what is significant, and what can be said of the same images without single answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_of
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.record import Keys
from vitsearch.study.front import Front, Point
from vitsearch.study.printed.details import PrintedComparison
from vitsearch.study.results.comparison import McNemar, PairedMeans, compare, most_differing

RECIPE = Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)
PLAN = Plan(
    "vit",
    "none",
    ImageSize.square(28),
    None,
    Compression(),
    "none",
    RECIPE,
    (Deployment("local", "onnxruntime", "cpu", "fp32", 1),),
)

MODELS = Front("fake", ("accuracy", "cpu_ms_p50"), None, (), None)


@pytest.fixture
def point(plan):
    def make(trial, values, intervals=None, **changes):
        return Point(trial, replace(plan, **changes), Keys("w", "g", "a", "d"), Metrics.of(values, intervals))

    return make


def timed(ms, half):
    return {"cpu_ms_p50": ms}, {"cpu_ms_p50": (ms - half, ms + half)}


def only(point, first, second, images=2000):
    (metric,) = compare(MODELS, point(1, *first), point(2, *second), images).metrics
    return metric


def test_a_ratio_whose_interval_excludes_one_is_significant(point):
    metric = only(point, timed(1.0, 0.05), timed(0.8, 0.04))
    assert metric.verdict == "second"
    assert metric.change == pytest.approx(0.8)
    half = math.hypot(math.log(1.05 / 0.95) / 2, math.log(0.84 / 0.76) / 2)
    assert (metric.low, metric.high) == pytest.approx((0.8 * math.exp(-half), 0.8 * math.exp(half)))


def test_overlapping_values_are_not_significant(point):
    metric = only(point, timed(1.0, 0.1), timed(0.95, 0.1))
    assert metric.verdict == "not significant"


def test_the_better_direction_is_that_of_the_metric(point):
    wide = {"accuracy": (0.79, 0.81)}, {"accuracy": (0.89, 0.91)}
    assert only(point, ({"accuracy": 0.8}, wide[0]), ({"accuracy": 0.9}, wide[1])).verdict == "second"
    assert only(point, ({"size_mb": 2.0},), ({"size_mb": 3.0},)).verdict == "first"


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ({"latency_ms_p95": 1.0}, {"latency_ms_p95": 2.0}, "no interval"),
        ({"latency_ms_p95": None}, {"latency_ms_p95": 2.0}, "not measured"),
        ({"params_m": 1.5}, {"params_m": 1.5}, "equal"),
    ],
)
def test_without_an_interval_no_difference_is_called_significant(point, first, second, verdict):
    assert only(point, (first,), (second,)).verdict == verdict


def test_knobs_that_differ_are_named(point):
    comparison = compare(MODELS, point(1, {}), point(2, {}, resolution=ImageSize.square(24)), None)
    assert comparison.knobs == {"resolution": (28.0, 24.0)}


def test_the_paired_test_is_described_without_its_answers(point):
    comparison = compare(MODELS, point(1, {"accuracy": 0.9105}), point(2, {"accuracy": 0.9225}), 2000)
    assert comparison.quality_text() == (
        "accuracy: trial 2 classifies 24 more of the same 2,000 validation images correctly. The interval above takes "
        "the two as independent. On paired answers the difference is significant if at most 138 images are judged "
        "differently (McNemar's exact test); --paired counts them"
    )


@pytest.mark.parametrize("apart", [1, 5])
def test_a_difference_of_few_images_cannot_be_significant(point, apart):
    comparison = compare(MODELS, point(1, {"accuracy": 0.91}), point(2, {"accuracy": 0.91 + apart / 2000}), 2000)
    assert comparison.quality_text() == (
        f"accuracy: trial 2 classifies {apart} more of the same 2,000 validation images correctly, which is not "
        "significant however they pair: by McNemar's exact test a difference below 6 never is"
    )


@given(st.integers(1, 80))
def test_the_most_images_that_may_differ_are_those_of_the_exact_test(apart):
    most = most_differing(apart, 2000)
    if most is None:
        assert apart < 6
        return
    few = (most - apart) // 2
    assert McNemar(2000, few, few + apart).is_significant
    assert not McNemar(2000, few + 1, few + 1 + apart).is_significant


def test_the_most_images_that_may_differ():
    assert [most_differing(apart, 2000) for apart in (5, 6, 22)] == [None, 6, 114]
    assert most_differing(500, 2000) == 2000, "no more than there are"


def test_equal_accuracies_need_no_test(point):
    comparison = compare(MODELS, point(1, {"accuracy": 0.9}), point(2, {"accuracy": 0.9}), 2000)
    assert (
        comparison.quality_text()
        == "accuracy: both classify equally many of the same 2,000 validation images correctly"
    )


def test_the_paired_answers_decide_where_they_are_known(point):
    comparison = compare(MODELS, point(1, {"accuracy": 0.9}), point(2, {"accuracy": 0.92}), 2000)
    assert replace(comparison, paired=McNemar(2000, 10, 50)).quality_text() == (
        "accuracy on the same 2,000 images: trial 1 alone is right on 10, trial 2 alone on 50: significant "
        "(McNemar's exact test, p = 1.6e-07)"
    )


def judged(point, first, second, paired):
    wide = {"accuracy": (first - 0.013, first + 0.013)}, {"accuracy": (second - 0.013, second + 0.013)}
    models = point(1, {"accuracy": first}, wide[0]), point(2, {"accuracy": second}, wide[1])
    return compare(MODELS, *models, 2000).with_answers(paired)


@pytest.mark.parametrize(("only_first", "verdict"), [(57, "second"), (80, "not significant")])
def test_one_verdict_stands_beside_the_paired_test(point, only_first, verdict):
    """ "not significant: accuracy" stood above "significant (McNemar's exact test)"."""
    comparison = judged(point, 0.9, 0.917, McNemar(2000, only_first, 91))
    (accuracy,) = comparison.metrics
    assert accuracy.verdict == verdict
    first, *_, last = comparison.summary()
    assert first == ("trial 2 is better in accuracy" if verdict == "second" else "not significant: accuracy")
    assert ("not significant" in last) == (verdict == "not significant")


def test_few_images_apart_are_not_significant_in_the_table_either(point):
    wide = {"accuracy": (0.531, 0.888)}, {"accuracy": (0.839, 1.0)}
    comparison = compare(MODELS, point(1, {"accuracy": 0.75}, wide[0]), point(2, {"accuracy": 1.0}, wide[1]), 20)
    assert comparison.metrics[0].verdict == "not significant"
    assert "not significant however they pair" in comparison.quality_text()


counts = st.integers(0, 300)


@given(counts, counts)
def test_the_paired_interval_excludes_no_difference_where_the_test_is_significant(first, second):
    if not first and not second:
        return
    test = McNemar(2000, first, second)
    low, high = test.interval
    assert low <= (second - first) / 2000 <= high
    assert (low > 0 or high < 0) == test.is_significant


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 0.03125), (1, 8, 20 / 512), (900, 900, 1.0), (0, 5000, 0.0)],
)
def test_the_exact_test_is_the_binomial_one(first, second, p):
    assert McNemar(100, first, second).p == pytest.approx(p)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_test_does_not_depend_on_the_order(first, second):
    assert McNemar(200, first, second).p == McNemar(200, second, first).p
    assert 0.0 <= McNemar(200, first, second).p <= 1.0


values = st.floats(0.01, 100.0)


@given(values, values, st.floats(0.001, 0.3), st.floats(0.001, 0.3))
def test_exchanging_the_two_inverts_the_ratio_and_keeps_the_verdict(value, other, half, other_half):
    def metrics(value, half):
        return Metrics.of({"cpu_ms_p50": value}, {"cpu_ms_p50": (value * math.exp(-half), value * math.exp(half))})

    first, second = Point(1, PLAN, None, metrics(value, half)), Point(2, PLAN, None, metrics(other, other_half))
    (there,), (back,) = compare(MODELS, first, second, None).metrics, compare(MODELS, second, first, None).metrics
    assert there.change * back.change == pytest.approx(1.0)
    assert {"first": "second", "second": "first"}.get(there.verdict, there.verdict) == back.verdict


def test_the_summary_names_what_is_better_without_raw_times(point):
    spans = {"cpu_ms_p50": (0.9, 1.1), "cpu_ms_p50_raw": (0.9, 1.1)}
    first = {"cpu_ms_p50": 1.0, "cpu_ms_p50_raw": 1.0, "size_mb": 2.0}, spans
    second = {"cpu_ms_p50": 1.05, "cpu_ms_p50_raw": 2.0, "size_mb": 1.0}, spans | {"cpu_ms_p50_raw": (1.9, 2.1)}
    comparison = compare(MODELS, point(1, *first), point(2, *second), None)
    assert list(comparison.summary()) == ["trial 2 is better in size_mb", "not significant: cpu_ms_p50"]
    assert json_of(PrintedComparison.of(comparison))["metrics"][2] == {
        "name": "size_mb",
        "first": 2.0,
        "second": 1.0,
        "change": 0.5,
        "low": None,
        "high": None,
        "verdict": "second",
    }


def test_without_a_first_value_there_is_no_ratio(point):
    metric = only(point, ({"energy_mj": 0.0},), ({"energy_mj": 1.0},))
    assert (metric.change, metric.verdict) == (None, "no interval")


def test_means_of_the_same_images_are_compared_by_their_differences():
    """Images differ by far more than the models: only the pairs show it."""
    first = [float(number) for number in range(100)]
    second = [value + (0.2 if number % 2 else 0.0) for number, value in enumerate(first)]
    paired = PairedMeans.of(first, second, more_is_better=True)
    assert (paired.n, paired.change) == (100, pytest.approx(0.1))
    half = 1.984 * 0.1 * math.sqrt(100 / 99) / 10  # R: qt(.975, 99)
    assert paired.interval == pytest.approx((0.1 - half, 0.1 + half), abs=1e-4)
    assert paired.is_significant
    assert not PairedMeans.of(first, first, more_is_better=True).is_significant


def test_one_image_tells_nothing_of_a_mean():
    paired = PairedMeans.of([0.5], [0.9], more_is_better=True)
    assert (paired.change, paired.is_significant) == (pytest.approx(0.4), False)


@pytest.mark.parametrize(("more_is_better", "verdict"), [(True, "second"), (False, "first")])
def test_the_better_of_two_means_depends_on_the_direction(point, more_is_better, verdict):
    values = [0.5, 0.52, 0.48, 0.51]
    paired = PairedMeans.of(values, [value + 0.1 for value in values], more_is_better)
    comparison = compare(MODELS, point(1, {"accuracy": 0.5}), point(2, {"accuracy": 0.6}), None)
    (metric,) = comparison.with_answers(paired).metrics
    assert (metric.verdict, metric.change) == (verdict, pytest.approx(0.1))


def test_the_paired_means_are_told_with_their_interval(point):
    comparison = compare(MODELS, point(1, {"accuracy": 0.9}), point(2, {"accuracy": 0.92}), None)
    paired = PairedMeans(2000, 0.02, (0.01, 0.03), more_is_better=True)
    assert replace(comparison, paired=paired).quality_text() == (
        "accuracy on the same 2,000 images: that of trial 2 less that of trial 1 is +0.0200 on average "
        "(+0.0100 to +0.0300): significant (Student's test of the differences)"
    )


def test_a_metric_of_all_images_keeps_its_difference_beside_that_of_single_images(point):
    comparison = compare(MODELS, point(1, {"accuracy": 0.9}), point(2, {"accuracy": 0.92}), None)
    paired = PairedMeans(2000, -0.01, (-0.02, -0.005), more_is_better=True)
    told = comparison.with_answers(paired)
    assert told.metrics == comparison.metrics
    assert told.quality_text().startswith("accuracy of each image alone on the same 2,000 images: that of trial 2 less")


def test_a_ratio_is_no_difference_of_pairs(point, pixel_error):
    comparison = compare(MODELS, point(1, {pixel_error: 2.0}), point(2, {pixel_error: 3.0}), None, pixel_error)
    assert comparison.with_answers(PairedMeans(2000, 1.5, (1.2, 1.8), False)).metrics == comparison.metrics


def test_a_minimised_quality_in_a_unit_is_compared_by_its_ratio(point, pixel_error):
    spans = {pixel_error: (1.9, 2.1)}, {pixel_error: (2.9, 3.1)}
    metric = only(point, ({pixel_error: 2.0}, spans[0]), ({pixel_error: 3.0}, spans[1]))
    assert (metric.verdict, metric.change) == ("first", 1.5)
