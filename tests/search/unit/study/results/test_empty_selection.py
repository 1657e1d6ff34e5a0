"""What is said where an expression chooses no model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Keys
from vitsearch.study.front import Point
from vitsearch.study.results.empty_selection import why_none
from vitsearch.study.results.selection import Selection

OBJECTIVES = ("accuracy", "cpu_ms_p50")


@pytest.fixture
def points(plan):
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
def test_each_comparison_is_held_against_what_the_models_have(points, where, why):
    selection = Selection.of(where, None, OBJECTIVES)
    assert selection.of_points(points) == ()
    assert why_none(selection.where, points) == why
