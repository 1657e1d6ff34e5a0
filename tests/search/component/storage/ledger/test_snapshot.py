"""What a database holds at one moment, on both kinds of database."""

from __future__ import annotations

import json
from time import time

import pytest

from support.evaluations import evaluation
from support.studies import stored_study
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import (
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
def make(ledger):
    """make(name, {key: value, ...}, ...): a study whose trials name these keys in their records."""

    def make(name, *keys):
        rows = stored_study(ledger._engine, name)
        for named in keys:
            number = rows.start("{}", ()).number
            rows.write(number, '{"x": [0.5, 0.0, 1.0]}', "{}")
            rows.finish(number, "COMPLETE", json.dumps({"keys": named}), time())
        return rows

    return make


def add_results(ledger, suffix):
    """One result of each kind that a trial names by a key that ends in `suffix`."""
    ledger.add(TrainingRow(f"w{suffix}", 1, {"accuracy": 0.9}, 0.1, 10, f"checkpoint{suffix}"), COST)
    ledger.add(ArtifactRow(f"a{suffix}", "model", f"model{suffix}", 1, "here", {}), COST)
    ledger.add(evaluation(f"a{suffix}", "split", [[0, 0, 9], [0, 1, 1]]), COST)
    ledger.add(MeasurementRow(f"g{suffix}", "sha", "device", "environment", "screen", 0, {"ms": 1.5}), COST)


def keys(suffix):
    return {"weights_key": f"w{suffix}", "graph_key": f"g{suffix}", "artifact_key": f"a{suffix}", "device_id": "d"}


def taken(storage, *names):
    with snapshot(storage) as seen:
        return [seen.study(name) for name in names or seen.names]


def test_all_of_a_study_is_read(make, storage):
    rows = make("one", keys(1))
    rows.change_attribute("space", lambda _: {"of": "it"})
    (study,) = taken(storage)
    (trial,) = study.trials
    assert (trial["number"], trial["state"], trial["beat_at"]) == (0, "COMPLETE", None)
    assert trial["started_at"] <= trial["ended_at"]
    assert trial["params"] == '{"x": [0.5, 0.0, 1.0]}'
    assert json.loads(study.objectives) == {"accuracy": "maximize", "ms": "minimize"}
    assert [(it["name"], it["value"]) for it in study.attributes] == [("space", '{"of": "it"}')]


def test_a_trial_that_runs_waits_in_the_snapshot(make, storage):
    rows = make("one", keys(1))
    rows.start("{}", ())
    rows.enqueue('{"x": 0.5}', "why")
    (study,) = taken(storage)
    assert [trial["state"] for trial in study.trials] == ["COMPLETE", "WAITING", "WAITING"]
    assert study.open == 2
    assert rows.states(1) == {1: "RUNNING", 2: "WAITING"}


def test_attributes_may_be_left_out(make, storage):
    rows = make("one")
    rows.change_attribute("waits", lambda _: 1)
    rows.change_attribute("stays", lambda _: 2)
    with snapshot(storage) as seen:
        study = seen.study("one", ["waits"])
    assert [row["name"] for row in study.attributes] == ["stays"]


def test_what_is_written_after_its_begin_is_not_seen(make, ledger, storage):
    study = make("one", keys(1))
    add_results(ledger, 1)
    with snapshot(storage) as seen:
        study.start("{}", ())
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
        study.change_attribute("written", lambda _: "meanwhile")
        ledger.add(TrainingRow("w", 1, {"accuracy": 0.9}, 0.1, 10, "c"), COST)
    assert ledger.training("w", 1) is not None


def test_results_that_only_other_studies_name_stay_behind(make, ledger, storage):
    make("one", keys(1), keys(3))
    make("two", keys(2), keys(3))
    for suffix in (1, 2, 3):
        add_results(ledger, suffix)
    ledger.add(BlockStructureRow("b", "base", "28", "c", {}, {}, "statistics"), COST)
    ledger.add(TrainingRow("base", 1, {"accuracy": 0.9}, None, 10, "base"), COST)  # no trial names it, and both need it
    with snapshot(storage) as seen:
        results = seen.results(["one"])
        assert {row["weights_key"] for row in results.tables["vs_training"]} == {"w1", "w3", "base"}
        assert {row["artifact_key"] for row in results.tables["vs_artifact"]} == {"a1", "a3"}
        assert {row["artifact_key"] for row in results.tables["vs_evaluation"]} == {"a1", "a3"}
        assert {row["graph_key"] for row in results.tables["vs_measurement"]} == {"g1", "g3"}
        assert set(results.files()) == {"checkpoint1", "checkpoint3", "base", "statistics"}
        assert set(results.models()) == {"model1", "model3"}
        assert seen.results(["one", "two"]).count == 3 * 4 + 2


def test_what_a_study_attribute_names_belongs_to_it(make, ledger, storage):
    study = make("one", keys(1))
    make("two", keys(2))
    study.change_attribute("longer_trainings", lambda _: {"a1:30": {"keys": keys(2), "correct": 5}})
    add_results(ledger, 2)
    with snapshot(storage) as seen:
        assert seen.results(["one"]).count == 4


def test_files_of_screened_graphs_are_not_named_and_those_that_judge_are(make, ledger, storage):
    ledger.add(ArtifactRow("s", Stage.SCREEN.value, "screened", 1, "here", {}), COST)
    ledger.add(ArtifactRow("m", "model", "model", 1, "here", {"judged_sha256": "judged"}), COST)
    ledger.add(ArtifactRow("n", "model", "other", 1, "here", {"judged_sha256": None}), COST)
    ledger.add(ArtifactRow("l", "logits", "logits", 1, "here", {}), COST)
    ledger.add(TrainingRow("w", 0, {"accuracy": 0.9}, 0.1, 1, None), COST)
    with snapshot(storage) as seen:
        results = seen.results([])
    assert (results.models(), results.files()) == (["model", "judged", "other"], ["logits"])


def test_all_files_of_what_was_shipped_are_named(make, ledger, storage):
    others = {"outputs_sha256": "outputs", "masks_sha256": "masks", "reference_sha256": None, "sha256": "a split"}
    ledger.add(ArtifactRow("s", Stage.SHIP.value, "images", 1, "here", others), COST)
    with snapshot(storage) as seen:
        results = seen.results([])
    assert (results.models(), results.files()) == ([], ["images", "outputs", "masks"])


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
    left_out = {tables.claim, tables.files_place, tables.run, tables.stage_cost, tables.reference_times, tables.version}
    assert set(RESULTS) == set(tables.metadata.tables.values()) - left_out - set(tables.STUDIES)


def test_no_row_has_a_number_that_the_database_gave(make, ledger, storage):
    make("one", keys(1))
    add_results(ledger, 1)
    with snapshot(storage) as seen:
        study, results = seen.study("one"), seen.results(["one"])
    rows = [*study.attributes, *study.trials, *study.runs]
    rows += [row for table in results.tables.values() for row in table]
    assert not [row for row in rows if "id" in row]
