"""What is expected of unpruned models in batches and threads in which they were not measured."""

from __future__ import annotations

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Keys
from vitsearch.search.expected_leaders import expected_leaders
from vitsearch.search.plan_requests import LeaderboardEntry

LATENCY = {("fp32", 1, 1): 8.0, ("fp32", 8, 1): 40.0, ("fp32", 1, 2): 4.0, ("int8_dynamic", 1, 1): 2.0}


@pytest.fixture
def plans(fake_study):
    return fake_study.with_space(space__threads=[1, 2], space__batch=["1", "8"]).plans()


@pytest.fixture
def leaders(plans):
    return {plan: entry(LATENCY[run_of(plan)]) for plan in plans.leaderboard()}


def run_of(plan):
    return plan.deployment.precision, plan.deployment.batch, plan.deployment.threads


def entry(latency_ms):
    metrics = Metrics.of({"accuracy": 0.9, "latency_ms_p50": latency_ms, "size_mb": 3.0})
    return LeaderboardEntry(Keys("w", "g", "a", "d"), metrics)


def test_batch_and_threads_change_every_precision_by_the_same_factors(plans, leaders):
    expected = {run_of(plan): leader.metrics.values for plan, leader in expected_leaders(plans, leaders).items()}
    assert {run: values["latency_ms_p50"] for run, values in expected.items()} == LATENCY | {
        ("fp32", 8, 2): 20.0,
        ("int8_dynamic", 8, 1): 10.0,
        ("int8_dynamic", 1, 2): 1.0,
        ("int8_dynamic", 8, 2): 5.0,
    }
    assert {(values["accuracy"], values["size_mb"]) for values in expected.values()} == {(0.9, 3.0)}


def test_a_leaderboard_of_one_batch_and_one_thread_is_complete(fake_study):
    plans = fake_study.plans()
    leaders = {plan: entry(1.0) for plan in plans.leaderboard()}
    assert expected_leaders(plans, leaders) == leaders
