"""What a study knows: the front as it is now, and the accuracies that are predicted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.schedulers import KEYS, posterior_of, screened
from vitsearch.core.record import ProxyScore
from vitsearch.pipeline.jobs import Evaluation


def test_a_limit_that_was_loosened_is_judged_as_it_is_now(plan, confirmed):
    record = confirmed(0.9, 1.0, constraints={"size_mb<=1": 1.0})
    assert [number for number, _ in posterior_of({8: record}).front_losses()] == [8]


def test_what_a_precision_loses_is_predicted_with_it(plan):
    lost = {(plan.backbone, plan.deployment): 0.2}
    evaluation = Evaluation(0.7, 0.1, 100)
    whole, less = (
        posterior.predict(screened(plan, 1.0), 0.9, evaluation)
        for posterior in (posterior_of(), posterior_of(lost_accuracy=lost))
    )
    assert whole.accuracy - less.accuracy == pytest.approx(0.2)


def test_a_fine_tune_is_not_blamed_for_what_the_precision_loses(plan, confirmed):
    """The line of the fine-tune is fitted to what the weights have lost alone."""
    lost = {(plan.backbone, plan.deployment): 0.2}
    record = confirmed(0.69, 1.0, keys=KEYS, proxy=ProxyScore(0.7, 0.1, 0.2, 0.7, 0.01))
    (seen,) = posterior_of({1: record}, lost_accuracy=lost)._observed()
    assert seen.drop == pytest.approx(0.01)


def test_predictions_learn_from_trained_plans(plan, confirmed):
    lost = {
        n: confirmed(
            0.9 - 0.02 * n, 1.0, keys=replace(KEYS, weights_key=f"{n}" * 64),
            proxy=ProxyScore(0.8, (n / 10) ** 2, 0.0, 0.9, 0.01),
        )
        for n in range(1, 9)
    }  # fmt: skip
    evaluation = Evaluation(0.9, 0.25, 100)
    before = posterior_of().predict(screened(plan, 1.0), 0.9, evaluation)
    after = posterior_of(lost).predict(screened(plan, 1.0), 0.9, evaluation)
    assert after.accuracy < before.accuracy - 0.02
    assert after.proxy == ProxyScore(0.9, 0.25, 0.0, after.accuracy, after.deviation)


def test_a_plan_that_was_confirmed_without_training_is_no_point_of_the_line(plan, confirmed):
    kept = {1: confirmed(0.5, 1.0, rung=0, proxy=ProxyScore(0.8, 0.001, 0.0, 0.9, 0.01))}
    evaluation = Evaluation(0.9, 0.25, 100)
    assert posterior_of(kept).predict(screened(plan, 1.0), 0.9, evaluation) == posterior_of().predict(
        screened(plan, 1.0), 0.9, evaluation
    )
