"""What a study knows and expects: the verdict on a screening measurement, predictions and gains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import Bound
from vitsearch.core.pareto import gain, loss
from vitsearch.core.plan import Compression, Plan, Recipe
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Keys, ProxyScore, Record, RunningTrial
from vitsearch.pipeline.jobs import Evaluation
from vitsearch.search.outlook import Goals, Outlook

KEYS = Keys("w" * 64, "g" * 64, None, "d" * 64)
PLAN = Plan("fake_vit", "builtin", 28, None, Compression(), "none", Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0))
OBJECTIVES = ("accuracy", "cpu_ms_p50")
REFERENCE = loss(OBJECTIVES, {"accuracy": 0.8, "cpu_ms_p50": 4.4})


def outlook_of(records=None, bounds=(), margin=0.01, **more):
    return Outlook(Goals(OBJECTIVES, tuple(bounds), REFERENCE, margin), records or {}, {"fake_vit": 0.9}, **more)


def metrics(**values):
    return Metrics({name: Figure(value) for name, value in values.items()})


@pytest.fixture
def confirmed(plan):
    def make(accuracy, ms, **more):
        return replace(Record("confirmed", plan, metrics=metrics(accuracy=accuracy, cpu_ms_p50=ms), rung=1), **more)

    return make


# ---- judging a screen


def screened(plan, ms):
    return RunningTrial(9, plan, KEYS, metrics(cpu_ms_p50=ms))


def test_a_screening_measurement_that_breaks_a_limit_is_infeasible(plan):
    outlook = outlook_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0), Bound("size_mb", "<=", 9.0)])
    record = outlook.judge_screen(screened(plan, 3.0))
    assert (record.outcome, record.reason) == ("infeasible", "its screening measurement breaks cpu_ms_p50<=2")
    assert record.constraints == {"cpu_ms_p50<=2": 0.5}


def test_a_limit_that_screening_cannot_judge_waits(plan):
    outlook = outlook_of(bounds=[Bound("latency_ms_p95", "<=", 1.0), Bound("accuracy", ">=", 0.99)])
    trial = RunningTrial(9, plan, KEYS, metrics(cpu_ms_p50=3.0, latency_ms_p95=9.0))
    assert outlook.judge_screen(trial) is None


def test_the_reason_of_dominated_names_the_cap_and_the_margin(plan, confirmed):
    outlook = outlook_of({7: confirmed(0.92, 1.0)})
    record = outlook.judge_screen(screened(plan, 2.0))
    assert record is None  # the cap is what was seen, 0.92, and the margin: better than trial 7
    outlook = outlook_of({7: confirmed(0.92, 1.0), 8: confirmed(0.94, 1.0, plan=replace(plan, backbone="other"))})
    record = outlook.judge_screen(screened(plan, 2.0))
    assert record.outcome == "dominated"
    assert record.reason == "dominated by trial 8 even if it reached 0.9300 (best known accuracy + 0.01)"


def test_a_model_that_could_be_better_continues(plan, confirmed):
    assert outlook_of({7: confirmed(0.9, 1.0)}).judge_screen(screened(plan, 0.9)) is None


def test_an_infeasible_model_dominates_nothing(plan, confirmed):
    other = replace(plan, backbone="other")
    small = metrics(accuracy=0.99, cpu_ms_p50=0.5, size_mb=2.0)
    outlook = outlook_of({8: confirmed(0.99, 0.5, plan=other, metrics=small)}, bounds=[Bound("size_mb", "<=", 1.0)])
    assert outlook.judge_screen(screened(plan, 2.0)) is None


def test_a_limit_that_was_loosened_is_judged_as_it_is_now(plan, confirmed):
    record = confirmed(0.9, 1.0, constraints={"size_mb<=1": 1.0})
    assert [number for number, _ in outlook_of({8: record}).front_losses()] == [8]


def test_what_would_break_a_limit_of_accuracy_adds_nothing(plan):
    objectives = ("cpu_ms_p50", "size_mb")
    corner = loss(objectives, {"cpu_ms_p50": 4.4, "size_mb": 9.0})
    goals = Goals(objectives, (Bound("accuracy", ">=", 0.8),), corner, 0.01)
    outlook = Outlook(goals, {}, {"fake_vit": 0.9})
    trial = replace(screened(plan, 1.0), metrics=metrics(cpu_ms_p50=1.0, size_mb=1.0), deviation=0.01)
    assert outlook.gain(replace(trial, accuracy=0.3), outlook.known()) == 0.0
    assert outlook.gain(replace(trial, accuracy=0.85), outlook.known()) > 0.0


def test_what_a_precision_loses_is_predicted_with_it(plan):
    lost = {(plan.backbone, plan.deployment): 0.2}
    found = Evaluation(0.7, 0.1, 100)
    whole, less = (
        one.predict(screened(plan, 1.0), 0.9, found) for one in (outlook_of(), outlook_of(lost_accuracy=lost))
    )
    assert whole.accuracy - less.accuracy == pytest.approx(0.2)


def test_a_fine_tune_is_not_blamed_for_what_the_precision_loses(plan, confirmed):
    """The line of the fine-tune is fitted to what the weights have lost alone."""
    lost = {(plan.backbone, plan.deployment): 0.2}
    record = confirmed(0.69, 1.0, keys=KEYS, proxy=ProxyScore(0.7, 0.1, 0.2, 0.7, 0.01))
    (seen,) = outlook_of({1: record}, lost_accuracy=lost)._observed()
    assert seen.drop == pytest.approx(0.01)


def test_the_cap_is_never_above_one(plan, confirmed):
    outlook = outlook_of({8: confirmed(1.0, 0.5)}, margin=0.5)
    assert "1.0000 (best known accuracy + 0.5)" in outlook.judge_screen(screened(plan, 2.0)).reason


def test_a_screening_measurement_without_the_objective_is_not_dominated(plan, confirmed):
    outlook = outlook_of({8: confirmed(0.99, 0.5)})
    assert outlook.judge_screen(screened(plan, None)) is None


# ---- what was put aside


def put_aside(plan, outcome, ms, predicted=None):
    proxy = ProxyScore(0.8, 0.1, 0.1, predicted, 0.0) if predicted else None
    return Record(outcome, plan, keys=KEYS, metrics=metrics(cpu_ms_p50=ms), proxy=proxy)


def test_a_relaxed_limit_readmits_infeasible_trials(plan):
    record = put_aside(plan, "infeasible", 3.0)
    assert outlook_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0)]).expected_gain(9, record) == 0.0
    assert outlook_of(bounds=[Bound("cpu_ms_p50", "<=", 3.5)]).expected_gain(9, record) > 0.0


def test_a_trial_behind_the_front_stays_aside(plan, confirmed):
    record = put_aside(plan, "not_promoted", 2.0, predicted=0.85)
    assert outlook_of().expected_gain(9, record) > 0.0
    assert outlook_of({1: confirmed(0.9, 1.0)}).expected_gain(9, record) == 0.0


@pytest.mark.parametrize("outcome", ["confirmed", "failed", "does_not_fit", "off_space", "duplicate"])
def test_finished_trials_are_not_readmitted(plan, outcome):
    assert outlook_of().expected_gain(9, put_aside(plan, outcome, 1.0, predicted=0.9)) == 0.0


# ---- predictions


def test_predictions_learn_from_trained_plans(plan, confirmed):
    lost = {
        n: confirmed(
            0.9 - 0.02 * n, 1.0, keys=replace(KEYS, weights_key=f"{n}" * 64),
            proxy=ProxyScore(0.8, (n / 10) ** 2, 0.0, 0.9, 0.01),
        )
        for n in range(1, 9)
    }  # fmt: skip
    found = Evaluation(0.9, 0.25, 100)
    before = outlook_of().predict(screened(plan, 1.0), 0.9, found)
    after = outlook_of(lost).predict(screened(plan, 1.0), 0.9, found)
    assert after.accuracy < before.accuracy - 0.02
    assert after.proxy == ProxyScore(0.9, 0.25, 0.0, after.accuracy, after.deviation)


def test_a_plan_that_was_confirmed_without_training_is_no_point_of_the_line(plan, confirmed):
    kept = {1: confirmed(0.5, 1.0, rung=0, proxy=ProxyScore(0.8, 0.001, 0.0, 0.9, 0.01))}
    found = Evaluation(0.9, 0.25, 100)
    assert outlook_of(kept).predict(screened(plan, 1.0), 0.9, found) == outlook_of().predict(
        screened(plan, 1.0), 0.9, found
    )


# ---- expected gain


def candidate(accuracy, ms, deviation=0.0):
    return RunningTrial(1, PLAN, KEYS, metrics(cpu_ms_p50=ms), accuracy=accuracy, deviation=deviation)


def test_the_gain_of_a_certain_plan_is_the_hypervolume_that_it_adds(confirmed):
    outlook = outlook_of({0: confirmed(0.9, 2.0)})
    points = [loss(OBJECTIVES, {"accuracy": a, "cpu_ms_p50": ms}) for a, ms in ((0.88, 1.0), (0.9, 2.0))]
    assert outlook.gain(candidate(0.88, 1.0), outlook.known()) == pytest.approx(gain(points[0], points[1:], REFERENCE))


def test_a_plan_that_may_become_better_than_predicted_has_an_expected_gain(confirmed):
    outlook = outlook_of({0: confirmed(0.9, 2.0)})
    known = outlook.known()
    assert outlook.gain(candidate(0.895, 2.0), known) == 0.0
    assert outlook.gain(candidate(0.895, 2.0, 0.02), known) > outlook.gain(candidate(0.895, 2.0, 0.006), known) > 0.0


def test_a_plan_that_may_be_better_only_within_the_tolerance_has_no_gain(confirmed):
    outlook = outlook_of({0: confirmed(0.9, 2.0)})
    assert outlook.gain(candidate(0.9, 2.0, POLICY.equality.accuracy_of_models), outlook.known()) == 0.0


def test_the_expected_gain_is_the_mean_over_what_the_accuracy_may_become(confirmed):
    """Far inside the reference the gain is linear in accuracy, so its mean is that of the mean."""
    outlook = outlook_of()
    known = outlook.known()
    certain, open_ = (outlook.gain(candidate(0.9, 1.0, deviation), known) for deviation in (0.0, 0.01))
    assert open_ == pytest.approx(certain, rel=1e-3)


def test_a_plan_that_is_likelier_to_miss_the_reference_is_not_worth_its_training():
    outlook = outlook_of()
    assert outlook.gain(candidate(0.79, 1.0, 0.05), outlook.known()) == 0.0  # the reference is at .8
    assert outlook.gain(candidate(0.81, 1.0, 0.05), outlook.known()) > 0.0


def test_what_is_being_trained_counts_as_predicted(confirmed):
    outlook = outlook_of()
    same = candidate(0.9, 1.0, 0.0)
    assert outlook.gain(same, outlook.known([same])) == pytest.approx(0.0, abs=1e-12)


def test_a_plan_without_all_objectives_or_prediction_has_no_gain():
    outlook = outlook_of()
    assert outlook.gain(candidate(0.9, None), outlook.known()) == 0.0
    assert outlook.gain(candidate(None, 1.0), outlook.known()) == 0.0


# ---- intervals and later measurements


def measured(ms, half):
    """A screened trial whose cost has an interval of `half` on either side."""
    return RunningTrial(1, PLAN, KEYS, Metrics({"cpu_ms_p50": Figure(ms, ms * (1 - half), ms * (1 + half))}))


def test_a_trial_that_is_dominated_only_within_its_interval_goes_on(confirmed):
    outlook = outlook_of({0: confirmed(0.91, 2.0)}, margin=0.0)
    assert outlook.judge_screen(measured(2.05, 0.01)).outcome == "dominated"
    assert outlook.judge_screen(measured(2.05, 0.1)) is None, "tied"


def test_what_was_measured_since_a_record_was_written_decides(confirmed):
    known = {0: confirmed(0.91, 2.0, keys=KEYS)}
    assert outlook_of(known, margin=0.0).judge_screen(measured(2.5, 0.0)).outcome == "dominated"
    now = outlook_of(known, margin=0.0, device_metrics=lambda _: metrics(cpu_ms_p50=3.0))
    assert now.judge_screen(measured(2.5, 0.0)) is None
