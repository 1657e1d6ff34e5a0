"""What a study knows: the front as it is now, and the accuracies that are predicted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.schedulers import KEYS, posterior_of, proxy, screened
from vitsearch.pipeline.jobs import Evaluation


def accuracy_of(trial):
    return trial.qualities["accuracy"]


def test_a_limit_that_was_loosened_is_judged_as_it_is_now(plan, confirmed):
    record = confirmed(0.9, 1.0, constraints={"size_mb<=1": 1.0})
    assert [number for number, _ in posterior_of({8: record}).front_losses()] == [8]


def test_what_a_precision_loses_is_predicted_with_it(plan):
    lost = {(plan.backbone, plan.deployment): {"accuracy": 0.2}}
    evaluation = Evaluation({"accuracy": 0.7}, 0.1, 100)
    whole, less = (
        posterior.predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
        for posterior in (posterior_of(), posterior_of(lost=lost))
    )
    assert accuracy_of(whole).mean - accuracy_of(less).mean == pytest.approx(0.2)


def test_a_fine_tune_is_not_blamed_for_what_the_precision_loses(plan, confirmed):
    """The line of the fine-tune is fitted to what the weights have lost alone."""
    lost = {(plan.backbone, plan.deployment): {"accuracy": 0.2}}
    record = confirmed(0.69, 1.0, keys=KEYS, proxy=proxy(0.1, 0.7, 0.2, 0.7, 0.01))
    (seen,) = posterior_of({1: record}, lost=lost)._observed("accuracy")
    assert seen.drop == pytest.approx(0.01)


def test_predictions_learn_from_trained_plans(plan, confirmed):
    lost = {
        n: confirmed(
            0.9 - 0.02 * n, 1.0, keys=replace(KEYS, weights_key=f"{n}" * 64),
            proxy=proxy((n / 10) ** 2, 0.8, 0.0, 0.9, 0.01),
        )
        for n in range(1, 9)
    }  # fmt: skip
    evaluation = Evaluation({"accuracy": 0.9}, 0.25, 100)
    before = posterior_of().predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
    after = posterior_of(lost).predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
    estimate = accuracy_of(after)
    assert estimate.mean < accuracy_of(before).mean - 0.02
    assert after.proxy == proxy(0.25, 0.9, 0.0, estimate.mean, estimate.deviation)


def test_a_plan_that_was_confirmed_without_training_is_no_point_of_the_line(plan, confirmed):
    kept = {1: confirmed(0.5, 1.0, rung=0, proxy=proxy(0.001, 0.8, 0.0, 0.9, 0.01))}
    evaluation = Evaluation({"accuracy": 0.9}, 0.25, 100)
    with_it, without = (
        posterior.predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
        for posterior in (posterior_of(kept), posterior_of())
    )
    assert with_it == without
