"""The times of one graph in two precisions, as a study measured them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.caveats.precision_times import graph_of, time_ratio
from vitsearch.core.figures import Figure, Metrics, ratio
from vitsearch.core.image_size import ImageSize

FP32 = Metrics({"cpu_ms_p50": Figure(0.63, 0.60, 0.66), "latency_ms_p50": Figure(1.0)})
INT8 = Metrics({"cpu_ms_p50": Figure(0.51, 0.49, 0.53), "latency_ms_p50": Figure(2.0)})


def test_two_precisions_of_a_model_are_one_graph(plan):
    def at(precision, **changes):
        return graph_of(replace(plan, deployments=(plan.deployment.at(precision),), **changes))

    assert at("fp32") == at("int8_ptq") == at("int8_dynamic", weights="hub")
    assert at("fp32") != at("fp32", resolution=ImageSize.square(20))
    assert at("fp32") != at("fp32", compression=replace(plan.compression, ffn_pruning_ratio=0.25))


def test_the_ratio_is_that_of_the_objective_with_its_interval():
    cpu = time_ratio(INT8, "trial 3", "fp32", FP32, ["accuracy", "cpu_ms_p50"])
    assert str(cpu) == "here its cpu_ms_p50 is 0.81 (0.76 to 0.86) times that of fp32, trial 3"
    latency = time_ratio(INT8, "trial 3", "fp32", FP32, ["accuracy", "latency_ms_p50"])
    assert str(latency) == "here its latency_ms_p50 is 2.00 (no interval) times that of fp32, trial 3"


def test_a_study_without_a_time_among_its_objectives_compares_cpu_time():
    assert time_ratio(INT8, "trial 3", "fp32", FP32, ["accuracy", "size_mb"]).metric == "cpu_ms_p50"


@pytest.mark.parametrize("missing", [Metrics({}), Metrics({"cpu_ms_p50": Figure(None, reason="no counter")})])
def test_without_a_time_of_both_nothing_is_said(missing):
    assert time_ratio(INT8, "trial 3", "fp32", missing, ["cpu_ms_p50"]) is None


costs = st.floats(0.01, 1000.0)
widths = st.floats(1.0, 1.5)


@given(costs, widths, costs, widths)
def test_a_ratio_lies_in_its_interval_which_is_no_narrower_than_either(value, of_value, other, of_other):
    quotient = ratio(
        Figure(value, value / of_value, value * of_value), Figure(other, other / of_other, other * of_other)
    )
    assert quotient.low <= quotient.value * (1 + 1e-9)
    assert quotient.value <= quotient.high * (1 + 1e-9)
    assert quotient.high / quotient.value >= max(of_value, of_other) * (1 - 1e-9)
