"""What no screen measures is foretold from what it does."""

from __future__ import annotations

import pytest

from vitsearch.core.metrics import METRICS
from vitsearch.search.cost_model import PROXIES, foretold

BASELINE = {"latency_ms_p50": 10.0, "energy_mj": 40.0, "power_w": 4.0, "latency_ms_sustained_p50": 15.0}
SCREEN = {"latency_ms_p50": 2.0, "energy_mj": None}


def test_energy_and_sustained_latency_follow_latency_and_power_stays():
    found = foretold(["accuracy", *PROXIES], SCREEN, [BASELINE])
    assert (found["energy_mj"], found["latency_ms_sustained_p50"], found["power_w"]) == (8.0, 3.0, 4.0)


def test_the_ratio_is_that_of_the_models_that_were_confirmed():
    confirmed = [BASELINE] + [{"latency_ms_p50": 2.0, "energy_mj": 2.0 * ratio} for ratio in (6.0, 7.0)]
    assert foretold(["energy_mj"], SCREEN, confirmed)["energy_mj"] == pytest.approx(12.0)


def test_what_the_screen_measured_stands():
    assert foretold(["latency_ms_p50"], SCREEN, [BASELINE]) == SCREEN


def test_what_nothing_is_known_of_stays_unknown():
    assert foretold(["energy_mj"], SCREEN, [{}])["energy_mj"] is None
    assert foretold(["energy_mj"], {}, [BASELINE])["energy_mj"] is None
    assert foretold(["peak_memory_mb"], SCREEN, [BASELINE | {"peak_memory_mb": 9.0}])["peak_memory_mb"] is None


def test_every_cost_is_screened_or_foretold():
    costs = {name for name, metric in METRICS.items() if name != "accuracy" and not metric.screened}
    assert costs == set(PROXIES)
