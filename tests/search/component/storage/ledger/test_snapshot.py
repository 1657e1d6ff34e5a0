"""What a database holds at one moment, on both kinds of database."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import (
    AccuracyRow,
    ArtifactRow,
    BlockStructureRow,
    Ledger,
    MeasurementRow,
    TrainingRow,
    snapshot,
    tables,
)
from vitsearch.storage.ledger.snapshot import RESULTS
from vitsearch.storage.stage_cost import StageCost

COST = StageCost(1.0, {"torch": "2"})


@pytest.fixture
def ledger(storage):
    opened = Ledger.open(storage)
    yield opened
    opened.close()


@pytest.fixture
def optuna_storage(storage, ledger):
    opened = optuna.storages.RDBStorage(storage)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def make(optuna_storage):
    """make(name, {key: value, ...}, ...): a study whose trials name these keys in their records."""

    def make(name, *keys):
        study = optuna.create_study(study_name=name, storage=optuna_storage, directions=["maximize", "minimize"])
        for named in keys:
            trial = study.ask()
            trial.suggest_float("x", 0.0, 1.0)
            trial.set_user_attr("record", {"keys": named})
            study.tell(trial, [float("inf"), 0.1])
        return study

    return make


def add_results(ledger, suffix):
    """One result of each kind that a trial names by a key that ends in `suffix`."""
    ledger.add(TrainingRow(f"w{suffix}", 1, 0.9, 0.1, 10, f"checkpoint{suffix}"), COST)
    ledger.add(ArtifactRow(f"a{suffix}", "model", f"model{suffix}", 1, "here", {}), COST)
    ledger.add(AccuracyRow(f"a{suffix}", "split", 10, "worker", 9, 1, [[0, 0, 9], [0, 1, 1]]), COST)
    ledger.add(MeasurementRow(f"g{suffix}", "sha", "device", "environment", "screen", 0, {"ms": 1.5}), COST)


def keys(suffix):
    return {"weights_key": f"w{suffix}", "graph_key": f"g{suffix}", "artifact_key": f"a{suffix}", "device_id": "d"}


def taken(storage, *names):
    with snapshot(storage) as seen:
        return [seen.study(name) for name in names or seen.names]


def test_all_of_a_trial_is_read(make, storage):
    make("one", keys(1))
    (study,) = taken(storage)
    (trial,) = study.trials
    assert (trial["number"], trial["state"]) == (0, "COMPLETE")
    assert trial["datetime_start"] < trial["datetime_complete"]
    assert [row["param_name"] for row in study.of_trials["trial_params"]] == ["x"]
    assert [(row["value"], row["value_type"]) for row in study.of_trials["trial_values"]] == [
        (None, "INF_POS"),
        (0.1, "FINITE"),
    ]
    assert [row["direction"] for row in study.of_study["study_directions"]] == ["MAXIMIZE", "MINIMIZE"]


def test_a_trial_that_runs_waits_in_the_snapshot(make, storage):
    study = make("one", keys(1))
    study.ask()
    study.enqueue_trial({"x": 0.5})
    (found,) = taken(storage)
    assert [trial["state"] for trial in found.trials] == ["COMPLETE", "WAITING", "WAITING"]
    assert found.open == 2
    assert study.trials[1].state == TrialState.RUNNING


def test_attributes_may_be_left_out(make, storage):
    study = make("one")
    study.set_user_attr("waits", 1)
    study.set_user_attr("stays", 2)
    with snapshot(storage) as seen:
        found = seen.study("one", ["waits"])
    assert [row["key"] for row in found.of_study["study_user_attributes"]] == ["stays"]


def test_what_is_written_after_its_begin_is_not_seen(make, ledger, storage):
    study = make("one", keys(1))
    add_results(ledger, 1)
    with snapshot(storage) as seen:
        study.ask()
        add_results(ledger, 2)
        make("two")
        assert seen.names == ["one"]
        assert len(seen.study("one").trials) == 1
        assert seen.results(["one"]).count == 4
    assert len(taken(storage, "one")[0].trials) == 2


def test_a_snapshot_stops_no_writer(make, ledger, storage):
    study = make("one", keys(1))
    with snapshot(storage) as seen:
        seen.study("one")
        study.set_user_attr("written", "meanwhile")
        ledger.add(TrainingRow("w", 1, 0.9, 0.1, 10, "c"), COST)
    assert ledger.training("w", 1) is not None


def test_results_that_only_other_studies_name_stay_behind(make, ledger, storage):
    make("one", keys(1), keys(3))
    make("two", keys(2), keys(3))
    for suffix in (1, 2, 3):
        add_results(ledger, suffix)
    ledger.add(BlockStructureRow("b", "base", 28, "c", {}, {}, "statistics"), COST)
    ledger.add(TrainingRow("base", 1, 0.9, None, 10, "base"), COST)  # no trial names it, and both need it
    with snapshot(storage) as seen:
        found = seen.results(["one"])
        assert {row["weights_key"] for row in found.tables["vs_training"]} == {"w1", "w3", "base"}
        assert {row["artifact_key"] for row in found.tables["vs_artifact"]} == {"a1", "a3"}
        assert {row["artifact_key"] for row in found.tables["vs_accuracy"]} == {"a1", "a3"}
        assert {row["graph_key"] for row in found.tables["vs_measurement"]} == {"g1", "g3"}
        assert set(found.files()) == {"checkpoint1", "checkpoint3", "base", "statistics"}
        assert set(found.models()) == {"model1", "model3"}
        assert seen.results(["one", "two"]).count == 3 * 4 + 2


def test_what_a_study_attribute_names_belongs_to_it(make, ledger, storage):
    study = make("one", keys(1))
    make("two", keys(2))
    study.set_user_attr("longer_trainings", {"a1:30": {"keys": keys(2), "correct": 5}})
    add_results(ledger, 2)
    with snapshot(storage) as seen:
        assert seen.results(["one"]).count == 4


def test_files_of_screened_graphs_are_not_named_and_those_that_judge_are(make, ledger, storage):
    ledger.add(ArtifactRow("s", Stage.SCREEN.value, "screened", 1, "here", {}), COST)
    ledger.add(ArtifactRow("m", "model", "model", 1, "here", {"judged_sha256": "judged"}), COST)
    ledger.add(ArtifactRow("n", "model", "other", 1, "here", {"judged_sha256": None}), COST)
    ledger.add(ArtifactRow("l", "logits", "logits", 1, "here", {}), COST)
    ledger.add(TrainingRow("w", 0, 0.9, 0.1, 1, None), COST)
    with snapshot(storage) as seen:
        found = seen.results([])
    assert (found.models(), found.files()) == (["model", "judged", "other"], ["logits"])


def test_costs_come_with_the_runs_of_a_study_or_with_its_results(make, ledger, storage):
    make("one", keys(1))
    ledger.costs.start_run("one", 2)
    ledger.costs.note(Stage.EXPORT, COST)
    ledger.costs.write()
    add_results(ledger, 1)
    (study,) = taken(storage)
    assert [(run["study"], run["cores"]) for run in study.runs] == [("one", 2)]
    assert [(cost["run"], cost["run_id"], cost["cpu_seconds"]) for cost in study.costs] == [(0, COST.run_id, 1.0)]
    with snapshot(storage) as seen:
        assert [(cost["run"], cost["run_id"]) for cost in seen.results(["one"]).costs] == [(None, COST.run_id)]


def test_every_table_of_results_is_read():
    left_out = {tables.claim, tables.files_place, tables.run, tables.stage_cost, tables.reference_times}
    assert set(RESULTS) == set(tables.metadata.tables.values()) - left_out


def test_no_row_has_a_number_that_the_database_gave(make, ledger, storage):
    make("one", keys(1))
    add_results(ledger, 1)
    with snapshot(storage) as seen:
        study, results = seen.study("one"), seen.results(["one"])
    rows = [*study.trials, *(row for found in study.of_trials.values() for row in found), *study.runs]
    rows += [row for found in results.tables.values() for row in found]
    assert not [row for row in rows if {"id", "trial_id", "study_id", "param_id"} & row.keys()]
