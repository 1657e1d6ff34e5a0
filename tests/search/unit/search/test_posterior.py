"""What a study knows: the front as it is now, and the accuracies that are predicted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from support.schedulers import KEYS, metrics, posterior_of, proxy, screened
from vitsearch.core.figures import Estimate
from vitsearch.core.limits import Bound
from vitsearch.core.metrics import METRICS
from vitsearch.core.pareto import loss
from vitsearch.core.priors import PRIORS
from vitsearch.core.record import ProxyFigure, ProxyScore, Record
from vitsearch.search.acquisition import predicted_to_break
from vitsearch.search.goals import Goals
from vitsearch.search.posterior import Posterior
from vitsearch.stages import Evaluation


def accuracy_of(trial):
    return trial.qualities["accuracy"]


def test_a_limit_that_was_loosened_is_judged_as_it_is_now(plan, confirmed):
    record = confirmed(0.9, 1.0, constraints={"size_mb<=1": 1.0})
    assert [number for number, _ in posterior_of({8: record}).front_losses()] == [8]


def test_a_measurement_may_bring_a_model_within_the_limits_or_out_of_them(confirmed):
    """The limit is on a metric that is no objective."""
    graphs = [replace(KEYS, graph_key=name * 64) for name in "ab"]
    records = {number: confirmed(0.9, 1.0, keys=keys) for number, keys in enumerate(graphs)}
    memory, changes = {"a" * 64: 10.0, "b" * 64: 30.0}, []
    posterior = posterior_of(
        records,
        bounds=[Bound("peak_memory_mb", "<=", 20.0)],
        device_metrics=lambda keys: metrics(peak_memory_mb=memory[keys.graph_key]),
        changes=lambda: changes,
    )
    assert [number for number, _ in posterior.front_losses()] == [0]
    memory.update({"a" * 64: 30.0, "b" * 64: 10.0})
    changes.append(None)
    assert [number for number, _ in posterior.front_losses()] == [1]


def test_a_plan_that_stands_in_for_a_dropped_word_counts_as_untried(plan, confirmed):
    off_space = Record("off_space", plan, constraints={"in_space": 1.0})
    assert posterior_of({1: off_space}).plans == set()
    assert posterior_of({1: off_space, 2: confirmed(0.9, 1.0)}).plans == {plan}


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
    assert after.proxy == proxy(0.25, 0.9, 0.0, estimate.mean, estimate.deviation, 0.0, estimate.shared)
    assert 0.0 < math.hypot(*estimate.shared) < estimate.deviation


def test_a_plan_that_was_confirmed_without_training_is_no_point_of_the_line(plan, confirmed):
    kept = {1: confirmed(0.5, 1.0, rung=0, proxy=proxy(0.001, 0.8, 0.0, 0.9, 0.01))}
    evaluation = Evaluation({"accuracy": 0.9}, 0.25, 100)
    with_it, without = (
        posterior.predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
        for posterior in (posterior_of(kept), posterior_of())
    )
    assert with_it == without


def trained(confirmed, n, error=0.0, divergence=0.04):
    """A training that came out by `error` better than the line of the prior says."""
    accuracy = 0.9 + PRIORS["accuracy"].slope * divergence**0.5 + error
    score = proxy(divergence, 0.9, 0.0, 0.0, 0.0)
    return confirmed(accuracy, 1.0, keys=replace(KEYS, weights_key=f"{n:x}" * 64), proxy=score)


def test_results_that_are_all_better_than_predicted_correct_what_waits(plan, confirmed):
    """A forecast that was too low cost half of what could be gained, because nothing corrected it."""
    evaluation, lines = Evaluation({"accuracy": 0.9}, 0.04, 100), {}
    for count in (0, 1, 4):
        posterior = posterior_of({n: trained(confirmed, n, error=0.02) for n in range(1, count + 1)})
        lines[count] = accuracy_of(posterior.predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation))
    assert lines[0].mean < lines[1].mean < lines[4].mean
    assert lines[4].mean - lines[0].mean == pytest.approx(0.02, abs=0.004)
    assert lines[0].deviation > lines[1].deviation > lines[4].deviation


def test_a_trial_that_waits_is_predicted_by_what_was_trained_since(plan, confirmed):
    posterior, evaluation = posterior_of(), Evaluation({"accuracy": 0.9}, 0.04, 100)
    waiting = posterior.predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
    assert posterior.forecast(waiting).qualities == {"accuracy": accuracy_of(waiting)}
    posterior.add(1, trained(confirmed, 1, error=-0.03))
    now = posterior.forecast(waiting)
    assert accuracy_of(now).mean < accuracy_of(waiting).mean - 0.01
    assert now.proxy.predicted["accuracy"].mean == accuracy_of(now).mean, "its record has what it was chosen by"
    after = posterior.after_rung(waiting, 1, {"accuracy": 0.95})
    assert posterior.forecast(after) == after, "a rung says more"


# ---- several qualities, and one in which less is better

TWO = ("accuracy", "recall_min", "cpu_ms_p50")


def posterior_for(objectives, base, records=None, bounds=(), **more):
    """One backbone, whose unpruned model has the qualities `base`."""
    corner = loss(objectives, {name: METRICS[name].shifted(base[name], -0.3) for name in base} | {"cpu_ms_p50": 4.4})
    goals = Goals(objectives, tuple(bounds), corner, 0.01)
    return Posterior(goals, records or {}, {"fake_vit": base}, **more)


BASE = {"accuracy": 0.9, "recall_min": 0.7}


def test_each_quality_is_predicted_by_a_line_of_its_own(plan):
    evaluation = Evaluation({"accuracy": 0.85, "recall_min": 0.5}, 0.25, 100)
    trial = posterior_for(TWO, BASE).predict(screened(plan, 1.0), BASE, evaluation)
    assert list(trial.qualities) == ["accuracy", "recall_min"]
    figures = trial.proxy.figures
    assert {name: figures[name].lost for name in figures} == pytest.approx({"accuracy": 0.05, "recall_min": 0.2})
    assert 0.7 > trial.qualities["recall_min"].mean > 0.5
    assert trial.qualities["recall_min"].deviation > 2 * trial.qualities["accuracy"].deviation


def test_a_quality_that_only_a_limit_names_is_predicted_too(plan):
    posterior = posterior_for(("accuracy", "cpu_ms_p50"), BASE, bounds=[Bound("recall_min", ">=", 0.5)])
    assert posterior.goals.qualities == ("accuracy", "recall_min")
    assert posterior.caps("fake_vit") == pytest.approx({"accuracy": 0.91, "recall_min": 0.71})


def test_what_is_minimised_is_predicted_on_the_scale_of_its_span(plan, pixel_error):
    """The same model, of which one metric says the share of what is right and the other how many pixels it is off."""
    objectives, base = ("recall_min", pixel_error, "cpu_ms_p50"), {"recall_min": 0.8, pixel_error: 2.0}
    evaluation = Evaluation({"recall_min": 0.7, pixel_error: 3.0}, 0.25, 100)
    trial = posterior_for(objectives, base).predict(screened(plan, 1.0), base, evaluation)
    share, pixels = trial.qualities["recall_min"], trial.qualities[pixel_error]
    assert trial.proxy.figures[pixel_error].lost == pytest.approx(0.1)
    assert 2.0 < pixels.mean < 3.0
    assert pixels.mean == pytest.approx(10.0 * (1.0 - share.mean))
    assert pixels.deviation == pytest.approx(10.0 * share.deviation)


def test_the_best_known_value_of_what_is_minimised_is_the_lowest(plan, pixel_error):
    records = {
        number: Record("confirmed", plan, metrics=metrics(**{pixel_error: error, "cpu_ms_p50": 1.0}))
        for number, error in enumerate((1.5, 2.5))
    }
    posterior = posterior_for((pixel_error, "cpu_ms_p50"), {pixel_error: 2.0}, records)
    assert posterior.caps("fake_vit") == {pixel_error: pytest.approx(1.4)}
    assert posterior.caps("unknown") == {pixel_error: 0.0}, "never better than perfect"


def test_a_finished_trial_has_its_evaluated_qualities_and_those_of_its_rung_0_else(plan, confirmed):
    posterior = posterior_for(TWO, BASE)
    score = ProxyScore(0.25, False, {name: ProxyFigure(0.5, 0.1, 0.6, 0.02) for name in BASE})
    put_aside = Record("not_promoted", plan, metrics=metrics(cpu_ms_p50=1.0), proxy=score)
    trained = replace(put_aside, outcome="confirmed", metrics=metrics(accuracy=0.88, recall_min=0.6))
    assert {name: each.mean for name, each in posterior.qualities_of(trained).items()} == {
        "accuracy": 0.88,
        "recall_min": 0.6,
    }
    predicted = posterior.qualities_of(put_aside)
    assert predicted["accuracy"].mean < 0.9
    assert predicted["recall_min"].mean < 0.7
    assert posterior.qualities_of(replace(put_aside, proxy=None)) == {}


def test_what_the_deployment_loses_of_each_quality_is_taken_off_a_rung(plan, pixel_error):
    objectives, base = ("accuracy", pixel_error, "cpu_ms_p50"), {"accuracy": 0.9, pixel_error: 2.0}
    lost = {(plan.backbone, plan.deployment): {"accuracy": 0.02, pixel_error: 0.05}}
    after = posterior_for(objectives, base, lost=lost).after_rung(
        screened(plan, 1.0), 1, {"accuracy": 0.88, pixel_error: 2.2}
    )
    assert after.rung_values == pytest.approx({"accuracy": 0.86, pixel_error: 2.7})


def test_a_rung_only_improves_what_was_predicted_of_a_minimised_quality(plan, pixel_error):
    trial = replace(screened(plan, 1.0), qualities={pixel_error: Estimate(2.5, 0.2), "accuracy": Estimate(0.9, 0.01)})
    after = trial.after_rung(1, {pixel_error: Estimate(2.4, 0.1), "accuracy": Estimate(0.8, 0.007)})
    assert after.qualities == {pixel_error: Estimate(2.4, 0.1), "accuracy": Estimate(0.9, 0.01)}


def test_a_quality_without_a_value_is_not_predicted_and_breaks_no_limit(plan):
    """Images of five classes have no `accuracy_top5`."""
    posterior = posterior_for(("accuracy", "cpu_ms_p50"), {"accuracy": 0.9}, bounds=[Bound("accuracy_top5", ">=", 0.9)])
    evaluation = Evaluation({"accuracy": 0.85}, 0.25, 100)
    trial = posterior.predict(screened(plan, 1.0), {"accuracy": 0.9}, evaluation)
    assert list(trial.qualities) == ["accuracy"]
    assert posterior.after_rung(trial, 1, {"accuracy": 0.88}).rung_values == {"accuracy": 0.88}
    assert predicted_to_break(posterior, trial) == []
