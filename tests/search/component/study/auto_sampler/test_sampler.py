"""The sampler in studies: pools, evidence, failures, resumed and shared studies, limits."""

from __future__ import annotations

import logging
import math
import random
import statistics
import time
from datetime import datetime, timedelta

import moocore
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from threadpoolctl import threadpool_info

from support.marks import long
from vitsearch.study.auto_sampler import EXPECTED_GAIN, AutoSampler, Evidence, ObjectiveSpec
from vitsearch.study.auto_sampler import proposal as proposal_module
from vitsearch.study.auto_sampler import sampler as module
from vitsearch.study.auto_sampler.candidates import PlanPool
from vitsearch.study.auto_sampler.encoding import key_of
from vitsearch.study.auto_sampler.observations import Objective
from vitsearch.study.auto_sampler.proposal import _priors

FAMILIES = ("a", "b", "c")
RATIOS = tuple(i / 10 for i in range(11))
COSTLY = (ObjectiveSpec(), ObjectiveSpec(is_cost=True))


def worst(*values):
    """Objectives of which the worst values of interest are known."""
    return tuple(ObjectiveSpec(reference=value) for value in values)


def draw(rng):
    """A conditional plan: only family a has a method, and its ratio has a name of its own."""
    family = rng.choice(FAMILIES)
    plan = {"family": family, f"ratio@{family}": rng.choice(RATIOS), "width": rng.choice(RATIOS)}
    return plan | ({"method@a": rng.choice(("x", "y"))} if family == "a" else {})


def pool(rng, count):
    return [draw(rng) for _ in range(count)]


def small_pool(rng, count):
    """The whole space: 6 plans."""
    return [{"family": family, "method": method} for family in FAMILIES for method in ("x", "y")][:count]


def suggest(trial):
    family = trial.suggest_categorical("family", FAMILIES)
    ratio = trial.suggest_float(f"ratio@{family}", 0, 1)
    width = trial.suggest_float("width", 0, 1)
    method = trial.suggest_categorical("method@a", ("x", "y")) if family == "a" else None
    return family, ratio, width, method


def values_of(plan):
    return plan["family"], plan[f"ratio@{plan['family']}"], plan["width"], plan.get("method@a")


def outcome(family, ratio, width, method=None):
    """Accuracy, and three costs that fall with what is cut."""
    accuracy = 0.9 - 0.2 * ratio**2 - 0.1 * (1 - width) ** 2 - 0.03 * (family == "b") - 0.02 * (method == "x")
    cost = (0.2 + width) * (1.1 - ratio) * (0.5 if family == "c" else 1.0)
    return accuracy, cost, 0.1 + width, 1.2 - ratio


def new_study(sampler, objectives=2):
    return optuna.create_study(directions=["maximize"] + ["minimize"] * (objectives - 1), sampler=sampler)


def go_on(study, count, objectives=2):
    for _ in range(count):
        trial = study.ask()
        study.tell(trial, outcome(*suggest(trial))[:objectives])


def volume(study, objectives=2):
    values = np.array([trial.values for trial in study.get_trials(states=[TrialState.COMPLETE])])
    points = np.column_stack([1 - values[:, 0], np.log(values[:, 1:])])
    return moocore.hypervolume(points, ref=[0.5] + [0.5] * (objectives - 1))


def test_it_asks_only_for_plans_of_the_pool_and_none_twice():
    study = new_study(AutoSampler(0, pool=pool))
    go_on(study, 25)
    plans = [trial.params for trial in study.trials]
    assert all(
        plan[f"ratio@{plan['family']}"] in RATIOS and ("method@a" in plan) == (plan["family"] == "a") for plan in plans
    )
    assert len({key_of(plan) for plan in plans}) == 25


@pytest.mark.parametrize("objectives", [2, *long(3, 4)])
def test_it_finds_more_than_random_asking(objectives):
    ours, chance = (
        new_study(AutoSampler(1, pool=pool), objectives),
        new_study(optuna.samplers.RandomSampler(1), objectives),
    )
    go_on(ours, 30, objectives)
    go_on(chance, 30, objectives)
    assert volume(ours, objectives) > volume(chance, objectives)


@pytest.mark.long
def test_without_a_pool_it_finds_more_than_random_asking():
    ours, chance = new_study(AutoSampler(1)), new_study(optuna.samplers.RandomSampler(1))
    go_on(ours, 30)
    go_on(chance, 30)
    assert volume(ours) > volume(chance)


def test_five_objectives_work():
    study = new_study(AutoSampler(0, pool=pool, startup_trials=5), 5)
    for _ in range(8):
        trial = study.ask()
        values = outcome(*suggest(trial))
        study.tell(trial, (*values, values[1] * values[2]))
    assert len(study.trials) == 8


@pytest.mark.parametrize("with_pool", [True, False], ids=["pool", "distributions"])
def test_a_resumed_study_asks_what_the_first_would_have_asked(with_pool):
    def sampler():
        return AutoSampler(3, pool=pool if with_pool else None)

    study = new_study(sampler())
    go_on(study, 16)
    resumed = new_study(sampler())
    resumed.add_trials(study.trials)
    assert suggest(study.ask()) == suggest(resumed.ask())


def test_one_sampler_serves_two_studies():
    sampler = AutoSampler(3, pool=pool)
    first, second = new_study(sampler), new_study(sampler)
    go_on(first, 12)
    go_on(second, 12)
    alone = new_study(AutoSampler(3, pool=pool))
    go_on(alone, 12)
    assert [trial.params for trial in second.trials] == [trial.params for trial in alone.trials]


def test_two_drivers_that_do_not_see_each_other_ask_different_plans():
    study = new_study(AutoSampler(0, pool=small_pool, startup_trials=1))
    first = study.ask()
    study.tell(first, (0.8 if first.suggest_categorical("family", FAMILIES) == "a" else 0.7, 1.0))
    earlier, later = study.ask(), study.ask()  # neither has said anything yet
    plans = [
        (trial.suggest_categorical("family", FAMILIES), trial.suggest_categorical("method", ("x", "y")))
        for trial in (later, earlier)
    ]
    assert plans[0] != plans[1]


def test_a_modelled_proposal_says_what_it_is_expected_to_add():
    study = new_study(AutoSampler(seed=0, pool=pool, objectives=worst(0.0, 20.0)))
    go_on(study, 40)
    said = [trial.system_attrs.get(EXPECTED_GAIN) for trial in study.get_trials()]
    assert said[:10] == [None] * 10  # plans that spread over the space
    assert all(0.0 <= share < 10.0 for share in said[10:])
    assert sum(said[-5:]) < sum(said[10:15])


def test_a_space_that_is_used_up_is_asked_again():
    study = new_study(AutoSampler(0, pool=small_pool, startup_trials=3))
    for number in range(8):
        trial = study.ask()
        trial.suggest_categorical("family", FAMILIES)
        trial.suggest_categorical("method", ("x", "y"))
        study.tell(trial, (0.5 + number / 100, 1.0 + number))
    assert len({key_of(trial.params) for trial in study.trials[:6]}) == 6


def test_enqueued_trials_keep_their_parameters_and_the_rest_follows_the_pool():
    study = new_study(AutoSampler(0, pool=pool, startup_trials=4))
    go_on(study, 6)
    study.enqueue_trial({"family": "b", "ratio@b": 0.33, "width": 0.77})
    study.enqueue_trial({"family": "a", "width": 0.4})
    whole, part = study.ask(), study.ask()
    assert suggest(whole) == ("b", 0.33, 0.77, None)
    family, ratio, width, _ = suggest(part)
    assert (family, width) == ("a", 0.4)
    assert ratio in RATIOS


def tell_small(study):
    """Ask for a plan of the small pool, say that it is as good as all others, and return it."""
    trial = study.ask()
    plan = trial.suggest_categorical("family", FAMILIES), trial.suggest_categorical("method", ("x", "y"))
    study.tell(trial, (0.5, 1.0))
    return plan


def test_trials_without_a_place_in_the_pool_are_ignored():
    """As those of a backbone that the file has replaced by another one, with the same parameters."""
    study = new_study(AutoSampler(0, pool=small_pool, place=lambda it: None if it.number < 6 else it.params))
    for plan in small_pool(None, 6):
        study.enqueue_trial(plan)
    before = [tell_small(study) for _ in range(6)]
    assert {tell_small(study) for _ in range(6)} == set(before)


def test_a_plan_is_tried_that_a_trial_had_under_fewer_parameters():
    """As before a second choice was added to the file."""
    study = new_study(AutoSampler(0, pool=small_pool, place=lambda it: {"family": "a"} | it.params))
    trial = study.ask({"method": optuna.distributions.CategoricalDistribution(("x", "y"))})
    study.tell(trial, (0.5, 1.0))
    assert ("a", trial.params["method"]) not in {tell_small(study) for _ in range(5)}


def test_a_waiting_plan_is_not_asked_for_by_another_trial():
    study = new_study(AutoSampler(0, pool=small_pool, startup_trials=1))
    trial = study.ask()
    method = trial.suggest_categorical("family", FAMILIES), trial.suggest_categorical("method", ("x", "y"))
    study.tell(trial, (0.5, 1.0))
    others = [plan for plan in small_pool(None, 6) if tuple(plan.values()) != method]
    waiting = study.ask()
    for plan in others[1:]:
        study.enqueue_trial(plan)
    assert waiting.suggest_categorical("family", FAMILIES) == others[0]["family"]
    assert waiting.suggest_categorical("method", ("x", "y")) == others[0]["method"]


def test_failed_trials_are_neither_repeated_nor_modelled():
    study = new_study(AutoSampler(0, pool=pool, startup_trials=4))
    for number in range(20):
        trial = study.ask()
        values = outcome(*suggest(trial))[:2]
        if number % 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, values)
    assert len({key_of(trial.params) for trial in study.trials}) == 20


def test_a_corner_in_which_trials_fail_is_left():
    """It would have the lowest costs of the space: 21 of 24 proposals lay in it when failures taught nothing."""
    objectives = [ObjectiveSpec(reference=0.5), ObjectiveSpec(is_cost=True, reference=3.0)]
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=AutoSampler(seed=0, objectives=objectives))
    failed = []
    for _ in range(34):
        trial = study.ask()
        cut = trial.suggest_float("cut", 0.0, 1.0)
        is_small = trial.suggest_categorical("backbone", ["small", "large"]) == "small"
        in_int8 = trial.suggest_categorical("precision", ["fp32", "int8"]) == "int8"
        failed.append(is_small and in_int8)
        if failed[-1]:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [0.9 - 0.2 * cut**2 - 0.02 * is_small, (2.0 - cut) / (1 + in_int8) / (1 + is_small)])
    assert sum(failed[:10]) > 0
    assert sum(failed[10:]) <= 6


def test_all_trials_may_fail():
    study = new_study(AutoSampler(0, pool=pool, startup_trials=2))
    for _ in range(5):
        trial = study.ask()
        suggest(trial)
        study.tell(trial, state=TrialState.FAIL)
    assert len({key_of(trial.params) for trial in study.trials}) == 5


def test_a_fit_that_fails_leaves_random_asking_and_one_warning(monkeypatch, caplog):
    def fails(*args):
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(module.Proposals, "scorer", fails)
    with caplog.at_level(logging.WARNING):
        for with_pool in (True, False):
            go_on(new_study(AutoSampler(0, pool=pool if with_pool else None, startup_trials=2)), 6)
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 2  # one per sampler


def screened(trial):
    """Everything of a pruned trial but the training is known."""
    if trial.state == TrialState.COMPLETE:
        return Evidence(tuple(trial.values), (0.002, 0.02))
    seen = trial.user_attrs.get("seen")
    return None if seen is None else Evidence(seen, (0.01, 0.02))


def test_trials_that_were_only_screened_teach_the_model():
    study = new_study(AutoSampler(0, pool=pool, evidence=screened, objectives=COSTLY, startup_trials=10))
    go_on(study, 3)
    for plan in pool(random.Random(1), 30):
        study.enqueue_trial(plan)
        trial = study.ask()
        family, *rest = suggest(trial)
        accuracy, cost, *_ = outcome(family, *rest)
        trial.set_user_attr("seen", (accuracy if family == "c" else 0.1, cost))
        study.tell(trial, state=TrialState.PRUNED)
    families = [suggest(study.ask())[0] for _ in range(5)]
    assert families == ["c"] * 5


def test_a_cost_that_was_only_measured_teaches_the_model():
    study = new_study(AutoSampler(0, pool=pool, evidence=screened, objectives=COSTLY, startup_trials=4))
    for ratio in RATIOS[:6]:
        study.enqueue_trial({"family": "b", "ratio@b": ratio, "width": 0.5})
    go_on(study, 6)
    for plan in pool(random.Random(1), 30):
        study.enqueue_trial(plan)
        trial = study.ask()
        family, *rest = suggest(trial)
        trial.set_user_attr("seen", (None, outcome(family, *rest)[1] * (1.0 if family == "b" else 1000.0)))
        study.tell(trial, state=TrialState.PRUNED)
    assert suggest(study.ask())[0] == "b"


def alike_and_others(rng, count):
    """Family a is all alike but for a knob that does nothing; b costs a tenth for a little less accuracy."""
    a = [{"family": "a", "ratio@a": 0.0, "idle": idle} for idle in RATIOS]
    return [*a, *({"family": "b", "ratio@b": ratio, "idle": 0.0} for ratio in RATIOS)][:count]


def like(trial):
    if trial.state == TrialState.WAITING or "seen" not in trial.user_attrs:
        return None
    return Evidence(trial.user_attrs["seen"], (0.003, 0.03))


def aside(study, plan, seen):
    """Ask for a plan, and put it aside as it is seen: known, and not complete."""
    study.enqueue_trial(plan)
    trial = study.ask()
    family = trial.suggest_categorical("family", FAMILIES)
    trial.suggest_float(f"ratio@{family}", 0, 1)
    trial.suggest_float("idle", 0, 1)
    trial.set_user_attr("seen", seen)
    study.tell(trial, state=TrialState.PRUNED)


def first_asked(tolerances):
    """After six of family a, which scatter by what measuring does, and one of b in the middle."""
    sampler = AutoSampler(
        0,
        pool=alike_and_others,
        evidence=like,
        objectives=(ObjectiveSpec(False, 0.8, tolerances[0]), ObjectiveSpec(True, 2.0, tolerances[1])),
        startup_trials=4,
    )
    study = new_study(sampler)
    for number, idle in enumerate(RATIOS[:6]):
        aside(study, {"family": "a", "ratio@a": 0.0, "idle": idle}, (0.9, 1.0 + 0.03 * (number % 3 - 1)))
    aside(study, {"family": "b", "ratio@b": 0.5, "idle": 0.0}, (0.86, 0.5))
    return study.ask().suggest_categorical("family", FAMILIES)


def test_what_may_be_better_only_within_the_tolerance_is_not_asked_for():
    assert first_asked((0.004, 0.05)) == "b"


def test_what_was_put_aside_is_not_asked_for_in_another_guise():
    study = new_study(
        AutoSampler(
            0,
            pool=alike_and_others,
            evidence=like,
            objectives=(ObjectiveSpec(False, 0.8), ObjectiveSpec(True, 2.0)),
            startup_trials=2,
        )
    )
    for ratio in RATIOS[:4]:
        aside(study, {"family": "b", "ratio@b": ratio, "idle": 0.0}, (0.89, 0.4))
    aside(study, {"family": "a", "ratio@a": 0.0, "idle": 0.0}, (0.82, 1.9))
    front = study.sampler._observed(study, study.get_trials(), study.ask()._cached_frozen_trial).reached
    assert len(front) == 5


def judged(constraints):
    """A cost of 1 for everything, and these constraints in place of those that the trial was told with."""
    return lambda trial: Evidence((0.9, 1.0), (0.003, 0.03), constraints) if trial.state.is_finished() else None


def test_evidence_replaces_the_constraints_of_a_trial():
    """As where the limits have changed since."""
    study = new_study(AutoSampler(0, pool=alike_and_others, evidence=judged({"fits": -1.0})))
    aside(study, {"family": "a", "ratio@a": 0.0, "idle": 0.0}, None)
    study.get_trials(deepcopy=False)[0].system_attrs["constraints"] = [1.0]
    observed = study.sampler._observed(study, study.get_trials(), study.ask()._cached_frozen_trial)
    assert observed.constraints.tolist() == [[-1.0]]


class Growing:
    """What is possible of every plan gets better from one revision to the next."""

    revision = 0

    def __call__(self, plan):
        return [(0.9, 0.9 + 0.01 * self.revision), (None, None)]


def test_a_prior_that_has_changed_is_asked_again():
    prior = Growing()
    plans = PlanPool(alike_and_others, None, prior, 0)
    before = plans.at(0)[2].prior[:, 0, 1]
    prior.revision = 2
    assert plans.at(1)[2].prior[:, 0, 1].tolist() == [pytest.approx(value + 0.02) for value in before]


def test_where_nothing_is_expected_the_same_is_taken_off_and_added():
    """Of what was observed and of what is asked other plans may be known."""
    encoding = PlanPool(alike_and_others, None, Growing(), 0)
    observed, proposed = encoding.at(0)[2].take([0, 1]), encoding.at(0)[2].take([2, 3])
    observed.prior[:, 1, 0], proposed.prior[:, 1, 0] = [100.0, math.nan], [10.0, math.nan]
    before, after = _priors(observed, proposed, Objective(maximised=False, is_cost=True), 1)
    assert before[1] == after[1]


def test_unknown_objectives_of_a_running_trial_are_believed():
    """Without it, the same gain would be looked for again and again."""
    study = new_study(AutoSampler(0, pool=pool))
    go_on(study, 15)
    plans = [suggest(study.ask()) for _ in range(8)]
    assert len(set(plans)) == 8


def test_limits_are_met_with_eight_trials_in_flight():
    study = new_study(AutoSampler(0, pool=pool), 3)
    flying = []
    for _ in range(60):
        trial = study.ask()
        flying.append((trial, outcome(*suggest(trial))))
        if len(flying) == 8:
            first, values = flying.pop(0)
            first.set_constraint("cost", values[1] - 0.5)
            study.tell(first, values[:3])
    met = [trial.constraints["cost"] <= 0 for trial in study.get_trials(states=[TrialState.COMPLETE])]
    usual = np.mean([outcome(*values_of(plan))[1] <= 0.5 for plan in pool(random.Random(0), 500)])
    assert np.mean(met[20:]) > min(0.9, usual + 0.1)


@pytest.mark.long
def test_a_reference_point_keeps_the_search_where_it_is_of_interest():
    narrow = new_study(AutoSampler(0, pool=pool, objectives=worst(0.85, None)))
    go_on(narrow, 30)
    wide = new_study(AutoSampler(0, pool=pool))
    go_on(wide, 30)
    accurate = [np.mean([trial.values[0] > 0.85 for trial in study.trials[10:]]) for study in (narrow, wide)]
    assert accurate[0] > accurate[1]


def test_features_help_to_predict_costs():
    calls = []

    def features(plan):
        calls.append(plan)
        return [np.log(0.2 + plan["width"])]

    study = new_study(AutoSampler(0, pool=pool, features=features, startup_trials=5))
    go_on(study, 10)
    assert calls


@pytest.mark.parametrize(("dear", "proposed"), [("a", "b"), ("b", "a")])
def test_what_is_expected_of_a_family_decides_before_it_was_tried(dear, proposed):
    def prior(plan):
        return (0.9, None), (100.0 if plan["family"] == dear else 1.0, None)

    def of_three(rng, count):
        return [plan for plan in (draw(rng) for _ in range(count)) if plan["family"] != "c" or plan["width"] == 0.5]

    study = new_study(AutoSampler(0, pool=of_three, prior=prior, objectives=worst(0.7, 120.0), startup_trials=2))
    for ratio in (0.2, 0.8):  # of family c alone, as it was expected
        study.enqueue_trial({"family": "c", "ratio@c": ratio, "width": 0.5})
        trial = study.ask()
        suggest(trial)
        study.tell(trial, (0.88, 1.0))
    assert suggest(study.ask())[0] == proposed


def test_what_cannot_reach_the_front_at_its_best_is_not_asked_for():
    """Only family b can be better than .9, which family a has for the least cost."""

    def prior(plan):
        return (None, 0.95 if plan["family"] == "b" else 0.9), (1.0, 1.0)

    study = new_study(AutoSampler(0, pool=pool, prior=prior, objectives=worst(0.5, 10.0), startup_trials=2))
    for family, accuracy in (("a", 0.9), ("b", 0.89), ("c", 0.88)):
        study.enqueue_trial({"family": family, f"ratio@{family}": 0.5, "width": 0.5})
        trial = study.ask()
        suggest(trial)
        study.tell(trial, (accuracy, 1.0))
    assert [suggest(study.ask())[0] for _ in range(2)] == ["b", "b"]


def test_plans_of_which_nothing_is_expected_count_as_usual():
    study = new_study(AutoSampler(0, pool=pool, prior=lambda plan: ((None, None), (None, None)), startup_trials=2))
    go_on(study, 6)
    assert study.trials[-1].system_attrs[EXPECTED_GAIN] >= 0.0


def test_a_value_that_the_study_does_not_offer_is_drawn_anew():
    def wrong(rng, count):
        return [{"family": "z", "width": 3.0} for _ in range(3)]

    study = new_study(AutoSampler(0, pool=wrong))
    trial = study.ask()
    assert trial.suggest_categorical("family", FAMILIES) in FAMILIES
    assert 0 <= trial.suggest_float("width", 0, 1) <= 1


# ---- what the caller gets wrong

WIDTH = {"width": optuna.distributions.FloatDistribution(0, 1)}


@pytest.mark.parametrize("with_pool", [True, False], ids=["pool", "distributions"])
def test_a_wrong_number_of_objectives_is_an_error(with_pool):
    study = new_study(AutoSampler(0, pool=pool if with_pool else None, objectives=[ObjectiveSpec()] * 3))
    with pytest.raises(ValueError, match="objectives of AutoSampler: 3 entries .*2 objectives"):
        suggest(study.ask())


@pytest.mark.parametrize("with_pool", [True, False], ids=["pool", "distributions"])
@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        (Evidence((0.9,), (0.0, 0.0)), "values"),
        (Evidence((0.9, 1.0), (0.0,)), "deviations"),
        (Evidence((0.9, 1.0), (0.0, 0.0), shared=((0.1,),)), "shared"),
    ],
)
def test_evidence_of_a_wrong_length_is_an_error_that_names_the_trial(evidence, name, with_pool):
    study = new_study(AutoSampler(0, pool=pool if with_pool else None, evidence=lambda trial: evidence))
    study.add_trial(optuna.trial.create_trial(params={"width": 0.5}, distributions=WIDTH, values=(0.9, 1.0)))
    with pytest.raises(ValueError, match=f"{name} of the evidence of trial 0"):
        study.ask().suggest_float("width", 0, 1)


# ---- trials without values


def proposed(dead_among=0, dead_after=0, started=timedelta(hours=1), asked_here=False):
    """What a study of 12 trials asks for next, where trials among or after them have no parameters."""
    sampler = AutoSampler(0, pool=alike_and_others, startup_trials=5)
    study = new_study(sampler)
    silent = optuna.trial.create_trial(state=TrialState.RUNNING)
    silent.datetime_start = datetime.now() - started
    plans = alike_and_others(None, 22)[::2]
    for number, plan in enumerate(plans):
        study.add_trials([silent] * (dead_among if number == 5 else 0))
        values = outcome(plan["family"], plan[f"ratio@{plan['family']}"], plan["idle"])[:2]
        distributions = {name: optuna.distributions.CategoricalDistribution((value,)) for name, value in plan.items()}
        study.add_trial(optuna.trial.create_trial(params=plan, distributions=distributions, values=values))
    study.add_trials([silent] * dead_after)
    for _ in range(30 if asked_here else 0):
        study.ask()
    trial = study.ask()
    family = trial.suggest_categorical("family", FAMILIES)
    return family, trial.suggest_float(f"ratio@{family}", 0, 1), trial.suggest_float("idle", 0, 1)


def test_trials_of_killed_processes_do_not_change_what_is_proposed():
    assert proposed(dead_after=30) == proposed(dead_among=30, started=timedelta(0)) == proposed()


def test_trials_that_were_asked_for_here_and_say_nothing_do_not_change_what_is_proposed():
    assert proposed(asked_here=True) == proposed()


def test_what_another_process_asks_for_right_now_is_left_to_it():
    assert proposed(dead_after=1, started=timedelta(seconds=1)) != proposed()


def test_trials_asked_for_together_get_different_plans():
    study = new_study(AutoSampler(0, startup_trials=5))
    for number in range(8):
        study.enqueue_trial({"family": "a", "ratio@a": number / 10, "width": 0.5, "method@a": "x"})
    go_on(study, 8)
    trials = [study.ask() for _ in range(6)]  # none has said anything yet
    assert len({suggest(trial) for trial in trials}) == 6


# ---- a front of one point, threads, long studies


def test_the_expected_gain_over_a_front_of_one_point_is_a_share():
    study = new_study(AutoSampler(0, startup_trials=4))
    for number in range(8):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("fits", -1.0 if number == 2 else 1.0)
        study.tell(trial, (x, 1.0 + y))
    study.ask().suggest_float("x", 0, 1)
    assert 0.0 <= study.trials[-1].system_attrs[EXPECTED_GAIN] < 4.0


def test_linear_algebra_keeps_to_one_thread(monkeypatch):
    threads = []
    fit = proposal_module.fit_hyperparameters

    def watched(*args):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return fit(*args)

    monkeypatch.setattr(proposal_module, "fit_hyperparameters", watched)
    go_on(new_study(AutoSampler(0, pool=pool, startup_trials=4)), 8)
    assert set(threads) == {1}


@pytest.mark.long
def test_the_cost_of_asking_grows_at_most_linearly():
    """The two studies are asked in turn, so that a machine that changes its speed changes it for both."""

    def study_of(count):
        study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(0))
        for _ in range(count):
            trial = study.ask()
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
            study.tell(trial, (x + y**2, 2 - x + y))
        study.sampler = AutoSampler(0)
        study.ask().suggest_float("x", 0, 1)
        return study

    def seconds(study):
        started = time.thread_time()
        study.ask().suggest_float("x", 0, 1)
        return time.thread_time() - started

    large, small = study_of(3000), study_of(1000)
    assert statistics.median(seconds(large) / seconds(small) for _ in range(15)) < 3.5


@pytest.mark.long
def test_a_concave_front_of_three_objectives_is_covered():
    """DTLZ2; with seeds 0 to 2 ours has .82 to .85, TPE .56 to .61 and NSGA-II .37 to .54."""

    def sphere(trial):
        a, b = trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)
        others = [trial.suggest_float("c", 0, 1), trial.suggest_int("m", 0, 10) / 10]
        word = trial.suggest_categorical("e", ("p", "q", "r"))
        radius = 1 + sum((other - 0.5) ** 2 for other in [*others, {"p": 0.9, "q": 0.5, "r": 0.0}[word]])
        sine, cosine = np.sin(np.array([a, b]) * np.pi / 2), np.cos(np.array([a, b]) * np.pi / 2)
        return tuple(radius * np.array([cosine[0] * cosine[1], cosine[0] * sine[1], sine[0]]))

    study = optuna.create_study(directions=["minimize"] * 3, sampler=AutoSampler(0))
    study.optimize(sphere, 50)
    values = np.array([trial.values for trial in study.trials])
    assert moocore.hypervolume(values, ref=[1.1] * 3) / (1.1**3 - np.pi / 6) > 0.7
