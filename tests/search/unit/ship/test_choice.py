"""The rules of `--pick`."""

from __future__ import annotations

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Keys
from vitsearch.errors import VitsearchError
from vitsearch.ship.choice import picked
from vitsearch.study.front import Front, Point

KEYS = Keys("a" * 64, "b" * 64, "c" * 64, "device")


@pytest.fixture
def front(plan):
    """Trials 1 to 3: the slower, the more accurate; trial 2 has no size."""
    values = {1: (0.8, 1.0, 3.0), 2: (0.9, 2.0, None), 3: (0.95, 4.0, 1.0)}
    points = tuple(
        Point(number, plan, KEYS, Metrics.of({"accuracy": accuracy, "cpu_ms_p50": ms, "size_mb": size}))
        for number, (accuracy, ms, size) in values.items()
    )
    return Front("fake", ("accuracy", "cpu_ms_p50"), None, points, 1)


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("min cpu_ms_p50", 1),
        ("max accuracy", 3),
        ("min cpu_ms_p50 where accuracy >= 0.9", 2),
        ("min cpu_ms_p50 where accuracy > 0.9", 3),
        ("max accuracy where cpu_ms_p50<=2", 2),
        ("max accuracy where cpu_ms_p50 < 2 and size_mb < 5", 1),
        ("min size_mb", 3),
        ("max accuracy where backbone = fake_vit and not cpu_ms_p50 > 2", 2),
    ],
)
def test_a_rule_picks_the_best_model_that_meets_its_limits(front, rule, trial):
    assert picked(front, rule) == trial


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("cheapest", "--pick 'cheapest' is not of the form: min METRIC [where EXPRESSION], or max METRIC"),
        (
            "min cpu_ms where accuracy >= 0.9",
            "no metric or knob with numbers is called 'cpu_ms'; did you mean 'cpu_ms_p50'?",
        ),
        ("min backbone", "no metric or knob with numbers is called 'backbone'"),
        ("min cpu_ms_p50 where accuracy is good", "'accuracy is good': one of < <= > >= == = != is expected"),
        ("min cpu_ms_p50 where accuracy >= high", "'accuracy >= high': accuracy is a number, but 'high' is not"),
        (
            "min cpu_ms_p50 where accuracy >= 0.99",
            "--pick: no model of the front meets accuracy >= 0.99: accuracy is 0.8 to 0.95",
        ),
        (
            "min cpu_ms_p50 where energy_mj < 1",
            "--pick: no model of the front meets energy_mj < 1: energy_mj was not measured",
        ),
        ("min energy_mj", "--pick: energy_mj was not measured for any model of the front that meets the rule"),
    ],
)
def test_a_rule_that_picks_nothing_says_why(front, rule, message):
    with pytest.raises(VitsearchError) as raised:
        picked(front, rule)
    assert str(raised.value).startswith(message)
