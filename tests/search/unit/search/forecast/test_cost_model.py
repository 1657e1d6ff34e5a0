"""Costs that the screening measurement lacks are predicted from those that it has."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from support.schedulers import KEYS, PLAN, metrics
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.metrics import METRICS
from vitsearch.core.plan import Deployment
from vitsearch.core.record import RunningTrial
from vitsearch.search.forecast.cost_model import SCATTER, predict_costs

CPU = Deployment("local", "onnxruntime", "cpu", "fp32")
GPU = replace(CPU, provider="cuda")
EXPECTED = [name for name, metric in METRICS.items() if metric.on_device and not metric.screened]
BASELINE = metrics(latency_ms_p50=10.0, energy_mj=40.0, power_w=4.0, latency_ms_sustained_p50=15.0)
SCREEN = metrics(latency_ms_p50=2.0, energy_mj=None)


def energies(deployment, ms, *watts):
    return [(deployment, metrics(latency_ms_p50=ms, energy_mj=ms * each)) for each in watts]


def predicted(objectives, confirmed, screen=SCREEN, deployment=CPU):
    trial = RunningTrial(1, replace(PLAN, deployments=(deployment,)), KEYS, screen)
    return predict_costs(objectives, trial, confirmed)


def test_energy_and_sustained_latency_follow_latency_and_power_is_constant():
    costs = predicted(["accuracy", *EXPECTED], [(CPU, BASELINE)])
    values = {name: forecast.value for name, forecast in costs.items()}
    assert values == {"energy_mj": 8.0, "latency_ms_sustained_p50": 3.0, "power_w": 4.0}


def test_the_ratio_is_that_of_the_confirmed_models():
    energy = predicted(["energy_mj"], [(CPU, BASELINE), *energies(CPU, 2.0, 6.0, 7.0)])["energy_mj"]
    assert energy.value == pytest.approx(12.0)


def test_a_model_is_predicted_from_those_that_run_in_the_same_way():
    confirmed = [*energies(GPU, 1.0, 10.0, 10.5, 9.5), *energies(CPU, 10.0, 3.0)]
    alike = predicted(["energy_mj"], confirmed, metrics(latency_ms_p50=10.0))["energy_mj"]
    assert alike.value == pytest.approx(30.0)
    assert alike.deviation <= SCATTER


def test_the_forecast_from_models_that_run_in_another_way_is_wide():
    """A CPU of 3 W beside a GPU of 10 W lies within its 90 % interval."""
    confirmed = energies(GPU, 1.0, 10.0, 10.0, 10.0)
    energy = predicted(["energy_mj"], confirmed, metrics(latency_ms_p50=10.0))["energy_mj"]
    assert energy.value == pytest.approx(100.0)
    assert energy.value * math.exp(-1.645 * energy.deviation) <= 35.0


def test_the_deviation_is_that_of_the_ratios_once_there_are_many():
    few, many = (
        predicted(["energy_mj"], energies(CPU, 1.0, *[3.0 * math.exp(0.02), 3.0 * math.exp(-0.02)] * half))["energy_mj"]
        for half in (1, 200)
    )
    assert many.deviation == pytest.approx(0.02, abs=0.006)
    assert many.deviation < few.deviation < SCATTER


def test_the_interval_of_the_screened_latency_counts():
    wide = Metrics({"latency_ms_p50": Figure(2.0, 1.0, 4.0)})
    energy = predicted(["energy_mj"], energies(CPU, 1.0, 3.0), wide)["energy_mj"]
    assert energy.deviation > math.log(4.0) / (2 * 1.96)


def test_screened_costs_are_not_predicted():
    assert predicted(["latency_ms_p50"], [(CPU, BASELINE)]) == {}


def test_a_cost_without_data_has_no_prediction():
    assert predicted(["energy_mj"], [(CPU, metrics())]) == {}
    assert predicted(["energy_mj"], [(CPU, BASELINE)], metrics()) == {}
    confirmed = BASELINE | metrics(peak_memory_mb=9.0)
    assert predicted(["peak_memory_mb"], [(CPU, confirmed)]) == {}


def test_every_cost_is_screened_or_predicted():
    costs = {name for name, metric in METRICS.items() if not metric.is_quality and not metric.screened}
    assert costs == set(EXPECTED)


def test_a_cost_on_one_device_of_a_fleet_is_predicted_from_the_latency_there():
    confirmed = Metrics.of({"latency_ms_p50": 8.0, "latency_ms_p50@pi": 2.0, "energy_mj@pi": 6.0})
    screen = Metrics.of({"latency_ms_p50": 8.0, "latency_ms_p50@pi": 4.0})
    assert predicted(["energy_mj@pi"], [(CPU, confirmed)], screen)["energy_mj@pi"].value == 12.0
