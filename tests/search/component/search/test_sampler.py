"""The sampler `auto` in a search."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.schedulers import proxy
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import Bound
from vitsearch.core.policy import POLICY
from vitsearch.core.priors import prior_of
from vitsearch.core.record import Keys, Record
from vitsearch.search.goals import Goals
from vitsearch.search.plan_requests import LeaderboardEntry, same_as_fp32
from vitsearch.search.posterior import Posterior
from vitsearch.search.sampler import TrialEvidence, UnprunedPrior, auto_sampler, declared
from vitsearch.storage.driver_id import DriverId
from vitsearch.study.auto_sampler import AutoSampler
from vitsearch.study.plan_pool import PlanParameters

PRIOR = prior_of("accuracy")
BASES = {"fake_vit": {"accuracy": 0.9}}
GOALS = Goals(("accuracy", "cpu_ms_p50"), (), (0.2, 1.5), 0.01)
KEYS = Keys("w", "g", None, "d")


class Trial:
    number = 3


def evidence_of(record):
    return TrialEvidence(Posterior(GOALS, {} if record is None else {3: record}, BASES))(Trial())


def metrics(**figures):
    return Metrics({name: figure if isinstance(figure, Figure) else Figure(figure) for name, figure in figures.items()})


def test_a_confirmed_trial_is_known_with_little_error(plan):
    record = Record("confirmed", plan, metrics=metrics(accuracy=0.88, cpu_ms_p50=Figure(2.0, 1.96, 2.04)))
    evidence = evidence_of(record)
    assert evidence.values == (0.88, 2.0)
    assert evidence.deviations == pytest.approx((POLICY.equality.accuracy_of_trainings, 0.04 / 3.92))


def test_a_trial_that_was_not_trained_counts_with_what_is_predicted(plan):
    record = Record("not_promoted", plan, metrics=metrics(cpu_ms_p50=2.0), proxy=proxy(0.25, 0.7, 0.2, 0.5, 0.5))
    evidence = evidence_of(record)
    assert evidence.values[0] == pytest.approx(0.9 + PRIOR.slope * 0.5 - PRIOR.lost * 0.2)
    assert evidence.deviations[0] > POLICY.equality.accuracy_of_trainings
    assert (evidence.values[1], evidence.deviations[1]) == (2.0, POLICY.equality.cost_without_interval)


def test_a_dominated_trial_tells_its_costs_alone(plan):
    assert evidence_of(Record("dominated", plan, metrics=metrics(cpu_ms_p50=2.0))).values == (None, 2.0)


def test_a_trial_has_the_constraints_of_today_and_whether_it_fits(plan):
    limits = (Bound("size_mb", "<=", 2.0),)
    record = Record("confirmed", plan, metrics=metrics(accuracy=0.9, size_mb=3.0), constraints={"size_mb<=9": -0.5})
    judge = TrialEvidence(Posterior(replace(GOALS, bounds=limits), {3: record}, BASES))
    assert judge(Trial()).constraints == {"size_mb<=2": 0.5, "fits": -1.0}
    assert evidence_of(Record("does_not_fit", plan, constraints={"fits": 1.0})).constraints == {"fits": 1.0}
    assert evidence_of(Record("off_space", plan, constraints={"in_space": 1.0})).constraints == {}


def test_a_cost_that_is_maximised_has_a_relative_deviation_too(plan):
    goals = Goals(("accuracy", "throughput_ips"), (), (0.2, 1.5), 0.01)
    figures = metrics(accuracy=0.9, throughput_ips=Figure(500.0, 480.4, 519.6))
    judge = TrialEvidence(Posterior(goals, {3: Record("confirmed", plan, metrics=figures)}, BASES))
    assert judge(Trial()).deviations[1] == pytest.approx(0.02)
    accuracy, throughput = declared(goals.objectives, {"accuracy": 0.8, "throughput_ips": 100.0})
    assert (accuracy.is_cost, throughput.is_cost, throughput.reference) == (False, True, 100.0)


def test_a_repeated_model_counts_with_the_accuracy_that_was_found(plan):
    score = proxy(0.25, 0.7, 0.2, 0.5, 0.5)
    record = Record("confirmed", plan, metrics=metrics(accuracy=0.76, cpu_ms_p50=2.0), proxy=score, duplicate_of=1)
    assert evidence_of(record).values == (0.76, 2.0)


def test_a_better_model_of_a_backbone_changes_what_is_possible(fake_study):
    pool = PlanParameters(fake_study.plans())
    fp32 = next(iter(fake_study.plans().leaderboard()))
    posterior = Posterior(GOALS, {}, {fp32.backbone: {"accuracy": 0.89}})
    expected = UnprunedPrior(pool, posterior, {fp32: LeaderboardEntry(KEYS, metrics(accuracy=0.9, cpu_ms_p50=1.5))})
    before = expected.revision
    posterior.add(1, Record("confirmed", fp32, metrics=metrics(accuracy=0.93, cpu_ms_p50=1.0)))
    assert expected.revision != before


def test_a_trial_without_a_record_tells_nothing():
    assert evidence_of(None) is None


def test_of_a_cut_plan_the_figures_of_its_unpruned_model_are_expected(fake_study):
    pool = PlanParameters(fake_study.plans())
    fp32, int8 = list(fake_study.plans().leaderboard())[:2]
    leader = LeaderboardEntry(KEYS, metrics(accuracy=0.9, cpu_ms_p50=1.5))
    expected = UnprunedPrior(pool, Posterior(GOALS, {}, {fp32.backbone: {"accuracy": 0.89}}), {fp32: leader})
    cut = next(plan for plan in pool.all() if pool.plan(plan).deployment == fp32.deployment and pool.plan(plan) != fp32)
    assert expected(cut) == [(0.9, pytest.approx(0.9)), (1.5, None)]  # .89 and the margin
    assert expected(pool.plans.parameters(int8)) == [(None, pytest.approx(0.9)), (None, None)]


def test_what_is_int8_in_name_only_is_fp32_once_more(fake_study):
    fp32, int8 = list(fake_study.plans().leaderboard())[:2]
    whole, cut = LeaderboardEntry(KEYS, metrics()), LeaderboardEntry(KEYS, metrics(), {"fp32": 0.99, "int8": 0.01})
    assert same_as_fp32({fp32: whole, int8: cut}) == {(int8.backbone, int8.deployment)}
    assert same_as_fp32({int8: cut}) == set()
    assert same_as_fp32({fp32: whole, int8: replace(cut, shares={"int8": 0.9, "fp32": 0.1})}) == set()


def test_a_search_with_auto_asks_our_own_sampler(fake_study):
    fake_study.run()
    seen = {record.plan for record in fake_study.records().values()}
    with fake_study.opened() as (study, _):
        posterior = Posterior(GOALS, study.records(), {"fake_vit": {"accuracy": 0.89}})
        sampler = auto_sampler(study, fake_study.plans(), posterior, {})
        study.sample_with(sampler)
        proposal = study.ask(fake_study.plans(), DriverId.current())
        plan = proposal.plan
        study.tell(proposal, Record("not_promoted", plan))
    assert isinstance(sampler, AutoSampler)
    assert fake_study.plans().contains(plan)
    assert plan not in seen
