"""The one change that is made to Optuna's own rows."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import RDBStorage

from vitsearch.storage.ledger.optuna_rows import replace_distribution

OLD, NEW = CategoricalDistribution(("a", "b")), CategoricalDistribution(("a", "b", "c"))


@pytest.fixture
def optuna_storage(storage):
    opened = RDBStorage(storage)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


def add_trials(storage, name):
    study = optuna.create_study(study_name=name, storage=storage)
    for word in ("a", "b"):
        study.add_trial(optuna.create_trial(params={"w": word, "v": word}, distributions={"w": OLD, "v": OLD}, value=0))


@pytest.fixture
def grown(optuna_storage):
    add_trials(optuna_storage, "one")
    add_trials(optuna_storage, "two")
    old, new = distribution_to_json(OLD), distribution_to_json(NEW)
    replace_distribution(optuna_storage.engine, "one", "w", old, new)
    return optuna_storage


def test_old_trials_keep_their_words(grown):
    trials = optuna.load_study(study_name="one", storage=grown).trials
    assert [trial.params["w"] for trial in trials] == ["a", "b"]


def test_a_new_word_can_be_asked_for(grown):
    study = optuna.load_study(study_name="one", storage=grown)
    study.enqueue_trial({"w": "c"})
    assert study.ask().suggest_categorical("w", NEW.choices) == "c"


def test_other_parameters_and_other_studies_stay(grown):
    one, two = (optuna.load_study(study_name=name, storage=grown).trials[0].distributions for name in ("one", "two"))
    assert (one["w"], one["v"]) == (NEW, OLD)
    assert (two["w"], two["v"]) == (OLD, OLD)
