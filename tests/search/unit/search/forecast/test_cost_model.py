"""Costs that the screening measurement lacks are predicted from those that it has."""

from __future__ import annotations

import pytest

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.metrics import METRICS
from vitsearch.search.forecast.cost_model import PROPORTIONAL_TO, predict_costs


def metrics(**values):
    return Metrics({name: Figure(value) for name, value in values.items()})


BASELINE = metrics(latency_ms_p50=10.0, energy_mj=40.0, power_w=4.0, latency_ms_sustained_p50=15.0)
SCREEN = metrics(latency_ms_p50=2.0, energy_mj=None)


def test_energy_and_sustained_latency_follow_latency_and_power_is_constant():
    costs = predict_costs(["accuracy", *PROPORTIONAL_TO], SCREEN, [BASELINE])
    assert (costs["energy_mj"], costs["latency_ms_sustained_p50"], costs["power_w"]) == (8.0, 3.0, 4.0)


def test_the_ratio_is_that_of_the_confirmed_models():
    confirmed = [BASELINE] + [metrics(latency_ms_p50=2.0, energy_mj=2.0 * ratio) for ratio in (6.0, 7.0)]
    assert predict_costs(["energy_mj"], SCREEN, confirmed)["energy_mj"] == pytest.approx(12.0)


def test_screened_costs_are_not_replaced():
    assert predict_costs(["latency_ms_p50"], SCREEN, [BASELINE]) == SCREEN.values


def test_a_cost_without_data_has_no_prediction():
    assert predict_costs(["energy_mj"], SCREEN, [metrics()])["energy_mj"] is None
    assert predict_costs(["energy_mj"], metrics(), [BASELINE])["energy_mj"] is None
    confirmed = BASELINE | metrics(peak_memory_mb=9.0)
    assert predict_costs(["peak_memory_mb"], SCREEN, [confirmed])["peak_memory_mb"] is None


def test_every_cost_is_screened_or_predicted():
    costs = {name for name, metric in METRICS.items() if not metric.is_quality and not metric.screened}
    assert costs == set(PROPORTIONAL_TO)


def test_a_cost_on_one_device_of_a_fleet_is_predicted_from_the_latency_there():
    confirmed = Metrics.of({"latency_ms_p50": 8.0, "latency_ms_p50@pi": 2.0, "energy_mj@pi": 6.0})
    screen = Metrics.of({"latency_ms_p50": 8.0, "latency_ms_p50@pi": 4.0})
    assert predict_costs(["energy_mj@pi"], screen, [confirmed])["energy_mj@pi"] == 12.0
