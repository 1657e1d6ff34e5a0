"""Resume a study with more choices, or with fewer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from optuna.trial import TrialState

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Plan
from vitsearch.pipeline.progress import Silent
from vitsearch.study.status import status

SMALL = {"space__resolution": [28], "space__quantization": ["fp32"], "search__trials": 2}
NEW_LINES = ["search.trials: 2 -> 4", "space.quantization: added int8_dynamic", "space.resolution: added 24"]


@dataclass
class Seen(Silent):
    ended_numbers: list[int] = field(default_factory=list)

    def ended(self, number, record):
        self.ended_numbers.append(number)


@pytest.fixture
def small(fake_study):
    """A study that has ended on a small space."""
    study = fake_study.with_space(**SMALL)
    study.run()
    return study


def state(study):
    with study.opened() as (opened, ledger):
        return status(opened, ledger)


def test_new_choices_keep_every_trial_and_are_searched(small, fake_study):
    before = small.records()
    grown = replace(fake_study.with_space(search__trials=4), runner=small.runner, progress=Seen())
    assert grown.run().complete
    after = grown.records()
    assert {number: after[number] for number in before} == before
    assert not before.keys() & set(grown.progress.ended_numbers)
    new = [after[number].plan for number in grown.progress.ended_numbers]
    assert {plan.deployment.precision for plan in new} == {"fp32", "int8_dynamic"}
    assert ImageSize.square(24) in {plan.resolution for plan in new}
    assert grown.trained == 4


def test_the_leaderboard_has_the_new_choices_although_nothing_more_is_trained(small, fake_study):
    assert len(state(small).leaderboard) == 1
    grown = fake_study.with_space(search__trials=2)
    assert grown.run().complete
    assert len(state(grown).leaderboard) == 2
    assert grown.trained == 2


def test_the_leaderboard_has_other_choices_that_are_as_many_as_before(small, fake_study):
    other = fake_study.with_space(search__trials=2, space__quantization=["int8_dynamic"])
    other.run()
    with other.opened() as (study, _):
        rows = [Plan.from_json(row["plan"]) for row in study.attributes["leaderboard"]]
    assert rows == list(other.plans().leaderboard())
    assert {plan.deployment.precision for plan in rows} == {"int8_dynamic"}


def test_status_says_what_was_changed(small, fake_study):
    assert state(small).space_changes == ()
    before = len(small.records())
    grown = fake_study.with_space(search__trials=4)
    grown.run()
    grown.run()
    (change,) = state(grown).space_changes
    assert (change.trials, list(change.lines)) == (before, list(NEW_LINES))


def test_fewer_choices_keep_every_trial(fake_study, finished):
    wide = fake_study.with_space(search__trials=2)
    wide.run()
    before = wide.records()
    narrow = fake_study.with_space(search__trials=3, space__quantization=["fp32"])
    narrow.run()
    after = narrow.records()
    assert {number: after[number] for number in before} == before
    assert {after[number].plan.deployment.precision for number in after.keys() - before.keys()} <= {"fp32"}


@pytest.mark.parametrize(
    "change",
    [
        {"quantization": ["int8_dynamic"]},
        {"batch": [8]},
        {"streams": [1, 2]},
        {"streams": [2]},
        {"resolution": [[24, 32], [32, 24]]},
    ],
    ids=str,
)
def test_a_choice_that_replaces_the_only_one_is_searched(small, fake_study, change):
    """Neither was a parameter, so trials of both have the same parameters."""
    changed = {f"space__{name}": values for name, values in change.items()}
    other = fake_study.with_space(**SMALL | changed | {"search__trials": 4})
    ended = {record.plan for record in small.records().values()}
    assert other.run().complete
    new = {record.plan for record in other.records().values()} - ended
    plans = other.plans()
    assert {plans.unpruned(model) for model in plans.unpruned_models()} <= new


def test_a_waiting_trial_of_a_wider_file_outlasts_a_run_of_a_narrower_one(small, fake_study):
    """As when a colleague with more choices has enqueued it, and her run goes on later."""
    grown = replace(fake_study.with_space(search__trials=4), runner=small.runner)
    plans = grown.plans()
    model = next(model for model in plans.unpruned_models() if model.precision == "int8_dynamic")
    wanted = plans.unpruned(model)
    with small.opened() as (study, _):
        study.enqueue(plans.parameters(wanted), "leaderboard")
    assert small.with_space(search__trials=3).run().complete
    assert small.numbers_by_state()[TrialState.WAITING] == 1
    assert wanted not in {record.plan for record in small.records().values()}
    assert grown.run().complete
    assert small.numbers_by_state()[TrialState.WAITING] == 0
    assert wanted in {record.plan for record in small.records().values()}
