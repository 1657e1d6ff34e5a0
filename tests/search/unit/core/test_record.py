"""The JSON form of a record is a contract, and what counts as trained."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.record import PRUNED, Keys, Outcome, ProxyFigure, ProxyScore, Record


@pytest.fixture
def full(plan) -> Record:
    return Record(
        "confirmed",
        plan,
        reason="",
        keys=Keys("w" * 64, "g" * 64, "a" * 64, "d" * 64),
        metrics=Metrics(
            {
                "accuracy": Figure(0.875),
                "cpu_ms_p50": Figure(1.25, 1.125, 1.375),
                "energy_mj": Figure(None, reason="no meter"),
            }
        ),
        constraints={"accuracy>=0.86": -0.01},
        proxy=ProxyScore(0.25, False, {"accuracy": ProxyFigure(0.8, 0.1, 0.86, 0.009, 0.0, (0.004, 0.0, -0.002))}),
        rung=1,
    )


def test_a_record_comes_back_from_json_equal(full, plan):
    failed = Record("failed", plan, "x", failure={"stage": "train", "kind": "crash", "message": "x"}, duplicate_of=3)
    for record in (full, failed):
        assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_the_json_form_is_the_committed_one(golden):
    assert Record.from_json(golden("record")).to_json() == golden("record")


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_only_confirmed_counts_as_trained(plan, outcome):
    assert Record(outcome, plan).is_confirmed == (outcome == "confirmed")


def test_a_duplicate_counts_nothing(full):
    assert not replace(full, duplicate_of=1).is_confirmed


def test_every_outcome_has_one_state_in_optuna():
    assert set(get_args(Outcome)) - PRUNED == {"confirmed", "failed"}


def test_a_value_at_its_limit_is_feasible(full):
    assert replace(full, constraints={}).feasible
    assert replace(full, constraints={"a": 0.0, "b": -1.0}).feasible
    assert not replace(full, constraints={"a": 0.0, "b": 1e-9}).feasible
