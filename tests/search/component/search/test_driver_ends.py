"""When a search ends, between two fakes."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from support.marks import long
from vitsearch.core.plan import Compression
from vitsearch.errors import StageError
from vitsearch.search import driver
from vitsearch.search.driver import SearchEnd
from vitsearch.search.ending import Streaks
from vitsearch.stages import ScreenJob
from vitsearch.storage.driver_id import DriverId
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.status import status
from vitsearch.study.study import Study
from vitsearch.testing.fakes import share

NO_IMPROVEMENT = SearchEnd(
    "0 plans trained; 6 trials in a row brought no improvement, and no candidate may: the front has converged", True
)


def test_a_spent_budget_ends_the_search(fake_study):
    ended = fake_study.with_space(search__budget=0.001).run()
    assert ended == SearchEnd("the budget of 0.001 s is spent", complete=False)
    with fake_study.opened() as (study, ledger):
        assert study.unfinished() == 2  # the leaderboard's, for the next run
        assert status(study, ledger).search_end == ended.reason


def test_a_search_without_improvement_ends(fake_study):
    small = fake_study.ending(listed_plans=0, trials_without_gain=6).with_space(
        space__head_pruning_ratio=[0.0], space__ffn_pruning_ratio=[0.0], space__resolution=[28], search__trials=50
    )
    ended = small.run()
    assert ended == NO_IMPROVEMENT
    assert small.trained <= 2


def test_a_search_whose_trials_fail_ends_with_the_failure(fake_study):
    def refuse_screened(job):
        if isinstance(job, ScreenJob):
            raise StageError("screen", "crash", "boom")

    few = fake_study.ending(listed_plans=0, failures=6).with_space(search__trials=50)
    few.runner.before = refuse_screened
    ended = few.run()
    assert not ended.complete
    assert " trials in a row failed; the last one: " in ended.reason
    assert "boom" in ended.reason
    few.runner.before = lambda job: None
    assert few.run().complete, "it is not stored as converged"


def test_a_search_within_limits_that_nothing_meets_says_so(fake_study):
    ended = (
        fake_study.ending(trials_without_gain=6).with_space(search__trials=2, limits={"size_mb": {"max": 1e-9}}).run()
    )
    assert "no model meets the limits: 'vitsearch front " in ended.reason


def test_a_search_that_has_converged_goes_on_when_another_run_has_trained_more(fake_study):
    small = fake_study.expecting(0.05).with_space(search__trials=50)
    small.run()
    with small.opened() as (study, _):
        stored = study.attributes["converged"]
        study.remember("converged", stored | {"trained": stored["trained"] - 1})
    before = len(small.records())
    small.expecting(0.001).run()
    assert len(small.records()) > before


def test_a_search_that_has_converged_goes_on_when_the_device_can_run_more(fake_study):
    lacking = {"int8_dynamic": "device local has no int8"}

    class Study(type(fake_study)):
        def plans(self):
            return replace(super().plans(), deployable=lambda deployment: lacking.get(deployment.precision))

    small = Study(fake_study.folder, fake_study.space).expecting(0.05).with_space(search__trials=50)
    assert small.run().complete
    assert small.trained
    assert {record.plan.deployment.precision for record in small.records().values()} == {"fp32"}
    lacking.clear()
    small.run()
    in_int8 = [record for record in small.records().values() if record.plan.deployment.precision == "int8_dynamic"]
    assert [record for record in in_int8 if not record.plan.compression.is_identity], "more than the leaderboard"


def test_a_search_that_has_converged_goes_on_in_another_environment_of_the_device(fake_study):
    small = fake_study.expecting(0.05).with_space(search__trials=50)
    small.run()
    before = len(small.records())
    small.device.info = small.device.info._replace(environment_id="ab" * 32)
    small.expecting(0.001).run()
    assert len(small.records()) > before


def test_a_search_ends_when_the_sampler_expects_no_gain(fake_study):
    ended = fake_study.expecting(0.05).with_space(search__trials=50).run()
    trains = fake_study.trained
    assert ended.complete
    assert ended.reason.startswith(f"{trains} plans trained; the last 3 proposals were expected to add at most ")
    assert ended.reason.endswith(
        "less than the 5.00% of search.least_gain, and no candidate may add that: the front has converged"
    )
    assert 0 < trains < 50
    with fake_study.opened() as (study, _):
        assert study.unfinished() == 0  # what was trained last is confirmed in its other deployments too


@pytest.mark.long
def test_a_search_that_has_converged_keeps_to_its_budget_while_it_trains_what_waits(fake_study, monkeypatch):
    class SpentByFiveTrainings:
        def __init__(self, *_):
            pass

        def why_spent(self):
            return "the budget is spent" if fake_study.trained >= 5 else None

    monkeypatch.setattr(driver, "Budget", SpentByFiveTrainings)
    expecting = fake_study.expecting(0.05)  # it converges after two, and twelve wait
    ended = expecting.with_space(search__trials=50, search__candidates=12).run()
    assert ended.reason == "the budget is spent"
    assert fake_study.trained <= 6  # the next one is chosen when the fifth is told


@pytest.mark.long
def test_a_search_that_has_converged_makes_nothing_new_until_its_space_changes(fake_study):
    small = fake_study.expecting(0.05).with_space(search__trials=50)
    first = small.run()
    records = small.records()
    assert small.run() == first
    assert small.records() == records
    small.with_space(search__trials=50, space__head_pruning_ratio=[0.0, 0.25, 0.5, 0.75]).run()
    assert len(small.records()) > len(records)


def test_what_was_still_open_when_a_search_converged_does_not_start_it_again(fake_study, monkeypatch):
    remember = driver.Driver._remember_convergence

    def with_a_gain_afterwards(self):
        remember(self)
        self._streaks = Streaks()

    monkeypatch.setattr(driver.Driver, "_remember_convergence", with_a_gain_afterwards)
    small = fake_study.ending(listed_plans=0, trials_without_gain=6).with_space(
        space__head_pruning_ratio=[0.0], space__ffn_pruning_ratio=[0.0], space__resolution=[28], search__trials=50
    )
    first = small.run()
    assert first == NO_IMPROVEMENT
    records = small.records()
    assert small.run() == first
    assert small.records() == records


def test_more_plans_in_the_queue_than_trainings_are_screened_and_the_run_ends(fake_study):
    few = fake_study.with_space(search__trials=3, search__sampler="random")
    enqueue_at_random(few, 30)
    assert few.run() == SearchEnd("3 plans trained", complete=True)
    assert few.trained == 3
    with few.opened() as (study, _):
        assert study.unfinished() == 0


def test_a_training_that_another_run_has_left_is_taken_up_before_others_fill_the_round(fake_study):
    """The last training belongs to a plan behind more candidates than a round has."""
    few = fake_study.with_space(search__trials=1, search__sampler="random")
    enqueue_at_random(few, 12)
    with closing(Study.open(few.space)) as study:
        left = [study.ask(few.plans(), DriverId.current()) for _ in range(12)]
        assert study.claim_training(left[-1].number, "ab" * 32, most=1)
        for open_trial in left:
            study.release(open_trial)
    few.run()
    assert few.trained <= 1


def test_a_failing_search_trains_the_candidate_that_waits_before_it_ends(fake_study):
    def refuse_cut_heads(job):
        if isinstance(job, ScreenJob) and share(job.spec.resolved)[0] != 1.0:
            raise StageError("screen", "crash", "boom")

    few = fake_study.ending(listed_plans=0, failures=6).with_space(
        space__ffn_pruning_ratio=[0.0, 0.75], space__pruning_scope=["uniform"], space__resolution=[28],
        space__quantization=["fp32"], search__trials=50, search__candidates=12, search__sampler="random",
    )  # fmt: skip
    few.runner.before = refuse_cut_heads
    few.run()
    trained = {record.plan.compression for record in few.records().values() if record.was_trained}
    assert Compression(ffn_pruning_ratio=0.75) in trained


def enqueue_at_random(few, count):
    plans, drawn = few.plans(), random.Random(1)
    with closing(Study.open(few.space)) as study:
        for _ in range(count):
            study.enqueue(plans.parameters(plans.random(drawn)), "by hand")


@pytest.mark.parametrize("sampler", ["auto", *long("random", "tpe")])
def test_a_small_space_ends_when_each_plan_was_tried_and_none_twice_at_once(fake_study, sampler):
    small = fake_study.with_space(
        space__head_pruning_ratio=[0.0, 0.33, 0.5], space__ffn_pruning_ratio=[0.0, 0.5], space__resolution=[28],
        space__pruning_scope=["uniform"], search__trials=50, search__sampler=sampler,
    )  # fmt: skip
    ended = small.run()
    assert ended == SearchEnd(f"{small.trained} plans trained; all 12 plans of the space have been tried", True)
    records = small.records()
    assert {record.plan for record in records.values()} == set(every_plan(small.plans()))
    assert not [record.reason for record in records.values() if "still running" in record.reason]
    assert small.run() == ended
    assert small.records() == records


def every_plan(plans):
    parameters = PlanParameters(plans)
    return map(parameters.plan, parameters.all())


def test_a_sampler_that_repeats_itself_is_given_unseen_plans(fake_study, monkeypatch):
    monkeypatch.setattr("vitsearch.study.study.make_sampler", lambda name, seed: Stubborn())
    few = fake_study.with_space(search__duplicates_in_a_row=2, search__trials=5, search__sampler="random")
    assert few.run().complete
    with few.opened() as (study, _):
        whys = Counter(trial.user_attrs.get("enqueued") for trial in study.as_optuna())
    assert whys["the sampler repeated itself"] > 0


class Stubborn(random.Random):
    """A sampler that draws the same plan for ever."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return getattr(distribution, "low", None) if hasattr(distribution, "low") else distribution.choices[0]

    def before_trial(self, study, trial):
        pass

    def after_trial(self, study, trial, state, values):
        pass
