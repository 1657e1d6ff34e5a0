"""Models filtered and sorted, what is said where none is chosen, and which neighbours on a front are tied."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_of
from vitsearch.core.record import Keys
from vitsearch.errors import UnknownName
from vitsearch.study.front import Front, Point
from vitsearch.study.knob_values import knob_values
from vitsearch.study.printed.models import PrintedFront
from vitsearch.study.results.comparison import compared
from vitsearch.study.results.selection import KNOBS, Selection, names_of, ties, values_of, why_none

OBJECTIVES = ("accuracy", "cpu_ms_p50")


@pytest.fixture
def point(plan):
    def make(trial, accuracy=0.9, ms=1.0, intervals=None, **changes):
        metrics = Metrics.of({"accuracy": accuracy, "cpu_ms_p50": ms, "energy_mj": None}, intervals)
        return Point(trial, replace(plan, **changes), Keys("w", f"g{trial}", "a", "d"), metrics)

    return make


def chosen(points, where=None, sort=None):
    return [point.trial for point in Selection.of(where, sort, OBJECTIVES).of_points(points)]


def test_without_a_condition_all_models_stay_in_their_order(point):
    assert chosen([point(2), point(1)]) == [2, 1]


def test_metrics_and_knobs_choose(point):
    points = [point(1, 0.9, 1.0), point(2, 0.8, 0.5, resolution=ImageSize.square(24)), point(3, 0.95, 2.0)]
    assert chosen(points, "cpu_ms_p50 < 1.5 and accuracy > 0.85") == [1]
    assert chosen(points, "resolution == 24 or trial == 3") == [2, 3]
    assert chosen(points, "energy_mj > 0 or energy_mj <= 0") == []


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("accuracy", [3, 1, 2]),  # the best first
        ("-accuracy", [2, 1, 3]),
        ("cpu_ms_p50", [2, 1, 3]),
        ("resolution", [2, 1, 3]),
        ("-trial", [3, 2, 1]),
    ],
)
def test_the_better_value_of_a_metric_comes_first(point, sort, order):
    points = [point(1, 0.9, 1.0), point(2, 0.8, 0.5, resolution=ImageSize.square(24)), point(3, 0.95, 2.0)]
    assert chosen(points, sort=sort) == order


@pytest.mark.parametrize("sort", ["accuracy", "-accuracy"])
def test_models_without_the_value_come_last(point, sort):
    assert chosen([point(1, None), point(2, 0.8)], sort=sort) == [2, 1]


def test_an_unknown_name_to_sort_by_is_refused():
    with pytest.raises(UnknownName, match=r"no metric or knob is called 'acuracy'; did you mean 'accuracy'\? Known: "):
        Selection.of(None, "-acuracy", OBJECTIVES)


def test_every_knob_can_be_named(plan, point):
    assert set(KNOBS) == set(knob_values(plan))
    assert set(names_of(OBJECTIVES)) >= set(values_of(point(1)))


def test_a_metric_of_a_device_can_be_named():
    assert names_of(["cpu_ms_p50@nano"])["cpu_ms_p50@nano"] == "number"


def test_neighbours_that_do_not_differ_significantly_are_ties(point):
    points = [
        point(1, 0.80, 1.0, {"accuracy": (0.79, 0.81), "cpu_ms_p50": (0.9, 1.1)}),
        point(2, 0.81, 1.2, {"accuracy": (0.80, 0.82), "cpu_ms_p50": (1.15, 1.3)}),
        point(3, 0.90, 1.3, {"accuracy": (0.89, 0.91), "cpu_ms_p50": (1.25, 1.4)}),
    ]
    assert ties(points, OBJECTIVES) == (
        {"accuracy": ("trial 2",)},
        {"accuracy": ("trial 1",), "cpu_ms_p50": ("trial 3",)},
        {"cpu_ms_p50": ("trial 2",)},
    )


def test_front_and_compare_agree_on_what_is_open(point):
    """The intervals overlap, and the ratio excludes 1: front said that it is open, compare that the first is better."""
    points = [
        point(1, 0.8, 0.20, {"cpu_ms_p50": (0.190, 0.210)}),
        point(2, 0.9, 0.22, {"cpu_ms_p50": (0.209, 0.2316)}),
    ]
    assert compared("cpu_ms_p50", points[0].metrics, points[1].metrics).verdict == "first"
    assert ties(points, ("cpu_ms_p50",)) == ({}, {})


def test_values_that_were_not_measured_never_tie(point):
    assert ties([point(1, None, 1.0), point(2, None, 1.0)], ("accuracy",)) == ({}, {})


spans = st.tuples(st.floats(0.1, 1.0), st.floats(0.0, 0.2))


@given(st.lists(spans, min_size=1, max_size=6))
def test_a_tie_is_mutual_and_only_with_neighbours(accuracies):
    metrics = [
        Metrics.of({"accuracy": value}, {"accuracy": (value - half, value + half)}) for value, half in accuracies
    ]
    points = [Point(index, None, Keys("w", "g", "a", "d"), of_point) for index, of_point in enumerate(metrics)]
    result = ties(points, ("accuracy",))
    for index, tie in enumerate(result):
        for name in tie.get("accuracy", ()):
            other = int(name.split()[1])
            assert abs(other - index) == 1
            assert points[index].name in result[other]["accuracy"]


def test_the_json_form_says_what_is_on_the_front_and_tied(point):
    on_front, other = point(1, intervals={"cpu_ms_p50": (0.9, 1.1)}), replace(point(2), breaks=("accuracy>=0.95",))
    front = Front("fake", OBJECTIVES, None, (on_front,), 0, others=(other,))
    points = json_of(PrintedFront.of(front, [on_front, other]))["points"]
    assert [(row["trial"], row["on_front"], row["is_knee"], row["tied"], row["breaks"]) for row in points] == [
        (1, True, True, {}, []),
        (2, False, False, {}, ["accuracy>=0.95"]),
    ]


@pytest.fixture
def two_models(plan):
    reasons = {"energy_mj": "the protocol has no power phase"}

    def point(trial, accuracy, backbone):
        metrics = Metrics.of({"accuracy": accuracy, "cpu_ms_p50": 2.0, "energy_mj": None}, reasons=reasons)
        return Point(trial, replace(plan, backbone=backbone), Keys("w", "g", "a", "d"), metrics)

    return point(1, 0.8875, "mobilevit_fmnist"), point(2, 0.91, "efficientvit_fmnist")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (
            "backbone == efficientvit",
            "no model has backbone 'efficientvit'; they have efficientvit_fmnist, mobilevit_fmnist",
        ),
        ("int8_ptqq == quantization", "no model has quantization 'int8_ptqq'; they have fp32"),
        ("quantization != fp32", "quantization is fp32"),
        ("energy_mj < 3", "energy_mj was not measured: the protocol has no power phase"),
        ("token_pruning_method == tome", "no model has a value of token_pruning_method"),
        ("throughput_ips > 3", "throughput_ips was not measured"),
        ("0.95 < accuracy < 0.99", "accuracy is 0.8875 to 0.91"),
        ("accuracy > 0.95 and not (cpu_ms_p50 > 1 or trial == 7)", "accuracy is 0.8875 to 0.91; cpu_ms_p50 is 2; "
         "trial is 1 to 2"),
    ],
)  # fmt: skip
def test_each_comparison_is_held_against_what_the_models_have(two_models, where, why):
    selection = Selection.of(where, None, OBJECTIVES)
    assert selection.of_points(two_models) == ()
    assert why_none(selection.where, two_models) == why
