"""The verdict on a screening measurement."""

from __future__ import annotations

from dataclasses import replace

from support.schedulers import KEYS, PLAN, metrics, posterior_of, screened
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import Bound
from vitsearch.core.record import RunningTrial
from vitsearch.search.verdicts import judge_screen, missed_bound


def test_a_screening_measurement_that_breaks_a_limit_is_infeasible(plan):
    posterior = posterior_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0), Bound("size_mb", "<=", 9.0)])
    record = judge_screen(posterior, screened(plan, 3.0))
    assert (record.outcome, record.reason) == ("infeasible", "its screening measurement breaks cpu_ms_p50<=2")
    assert record.constraints == {"cpu_ms_p50<=2": 0.5}


def test_a_limit_that_screening_cannot_judge_waits(plan):
    posterior = posterior_of(bounds=[Bound("latency_ms_p95", "<=", 1.0), Bound("accuracy", ">=", 0.99)])
    trial = RunningTrial(9, plan, KEYS, metrics(cpu_ms_p50=3.0, latency_ms_p95=9.0))
    assert judge_screen(posterior, trial) is None


def test_the_reason_of_dominated_names_the_cap_and_the_margin(plan, confirmed):
    posterior = posterior_of({7: confirmed(0.92, 1.0)})
    record = judge_screen(posterior, screened(plan, 2.0))
    assert record is None  # the cap is what was seen, 0.92, and the margin: better than trial 7
    posterior = posterior_of({7: confirmed(0.92, 1.0), 8: confirmed(0.94, 1.0, plan=replace(plan, backbone="other"))})
    record = judge_screen(posterior, screened(plan, 2.0))
    assert record.outcome == "dominated"
    assert record.reason == "dominated by trial 8 even if it reached 0.9300 (best known accuracy + 0.01)"


def test_a_model_that_could_be_better_continues(plan, confirmed):
    assert judge_screen(posterior_of({7: confirmed(0.9, 1.0)}), screened(plan, 0.9)) is None


def test_an_infeasible_model_dominates_nothing(plan, confirmed):
    other = replace(plan, backbone="other")
    small = metrics(accuracy=0.99, cpu_ms_p50=0.5, size_mb=2.0)
    posterior = posterior_of({8: confirmed(0.99, 0.5, plan=other, metrics=small)}, bounds=[Bound("size_mb", "<=", 1.0)])
    assert judge_screen(posterior, screened(plan, 2.0)) is None


def test_the_cap_is_never_above_one(plan, confirmed):
    posterior = posterior_of({8: confirmed(1.0, 0.5)}, margin=0.5)
    assert "1.0000 (best known accuracy + 0.5)" in judge_screen(posterior, screened(plan, 2.0)).reason


def test_a_screening_measurement_without_the_objective_is_not_dominated(plan, confirmed):
    posterior = posterior_of({8: confirmed(0.99, 0.5)})
    assert judge_screen(posterior, screened(plan, None)) is None


def measured(ms, half):
    """A screened trial whose cost has an interval of `half` on either side."""
    return RunningTrial(1, PLAN, KEYS, Metrics({"cpu_ms_p50": Figure(ms, ms * (1 - half), ms * (1 + half))}))


def test_a_trial_that_is_dominated_only_within_its_interval_goes_on(confirmed):
    posterior = posterior_of({0: confirmed(0.91, 2.0)}, margin=0.0)
    assert judge_screen(posterior, measured(2.05, 0.01)).outcome == "dominated"
    assert judge_screen(posterior, measured(2.05, 0.1)) is None, "tied"


def test_what_was_measured_since_a_record_was_written_decides(confirmed):
    records = {0: confirmed(0.91, 2.0, keys=KEYS)}
    assert judge_screen(posterior_of(records, margin=0.0), measured(2.5, 0.0)).outcome == "dominated"
    now = posterior_of(records, margin=0.0, device_metrics=lambda _: metrics(cpu_ms_p50=3.0))
    assert judge_screen(now, measured(2.5, 0.0)) is None


def test_a_limit_is_missed_only_where_the_better_end_misses_it():
    limit = Bound("cpu_ms_p50", "<=", 2.0)
    assert missed_bound([limit], measured(2.1, 0.1).metrics) is None
    assert missed_bound([limit], measured(2.1, 0.01).metrics) == limit


def test_of_several_limits_the_one_that_is_missed_by_most_is_named():
    slow, large = Bound("cpu_ms_p50", "<=", 2.0), Bound("size_mb", "<=", 1.0)
    assert missed_bound([slow, large], metrics(cpu_ms_p50=3.0, size_mb=4.0)) == large
    assert missed_bound([slow, large], metrics(cpu_ms_p50=None, size_mb=1.0)) is None
    assert missed_bound([], metrics(cpu_ms_p50=3.0)) is None
