"""What the page shows is what the study and its ledger hold."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.json_value import json_of
from vitsearch.core.pareto import hypervolume, loss
from vitsearch.core.record import Record
from vitsearch.report.data import read_report
from vitsearch.report.trials import FAILED, FRONT, NOT_TRAINED, OVER_LIMIT
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger.costs import Run
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.front import read_front
from vitsearch.study.printed.effects import PrintedExplanation
from vitsearch.study.results.explanation import read_explanation
from vitsearch.study.study import Study


def column(words):
    return [words["words"][index] for index in words["index"]]


def test_the_front_of_the_report_is_that_of_the_front_command(finished, report):
    with finished.opened() as (study, ledger):
        front = read_front(study, ledger)
    assert [trial.number for trial in report.trials if trial.group == FRONT] == sorted(
        point.trial for point in front.points
    )
    assert report.knee == front.points[front.knee].trial
    assert {t.number: t.metrics for t in report.trials if t.group == FRONT} == {
        p.trial: p.metrics for p in front.points
    }


def test_a_duplicate_is_no_further_model(report):
    model = next(trial for trial in report.trials if trial.group == FRONT)
    assert model.is_model
    assert not replace(model, duplicate_of=0).is_model


def test_every_finished_trial_is_there_behind_the_baseline(finished, report):
    assert [trial.number for trial in report.trials] == [None, *finished.records()]


def test_every_column_has_a_value_for_each_trial(report):
    trials, count = report.to_json()["trials"], len(report.trials)
    columns = [trials["knobs"], trials["metrics"]]
    lengths = {
        len(column["index"])
        for column in [*trials["knobs"].values(), *(m["reason"] for m in trials["metrics"].values())]
    }
    lengths |= {len(metric[name]) for metric in trials["metrics"].values() for name in ("value", "low", "high")}
    lengths |= {
        len(column["index"] if isinstance(column, dict) else column)
        for column in trials.values()
        if column not in columns
    }
    assert lengths == {count}


def test_what_was_not_measured_has_its_reason(report):
    power = report.to_json()["trials"]["metrics"]
    assert "power_w" not in power  # no trial has it
    accuracy = power["accuracy"]
    missing = [index for index, value in enumerate(accuracy["value"]) if value is None]
    assert missing
    assert {column(accuracy["reason"])[index] for index in missing} == {"it is evaluated when a model is confirmed"}


def test_the_hypervolume_ends_with_that_of_the_front(report):
    front = [loss(tuple(report.objectives), trial.metrics.values) for trial in report.trials if trial.group == FRONT]
    assert report.steps[-1].hypervolume == pytest.approx(
        hypervolume(front, loss(tuple(report.objectives), report.reference))
    )
    assert [step.trial for step in report.steps][-1] is None


def test_effects_are_those_of_the_explain_command(finished, report):
    with finished.opened() as (study, ledger):
        expected = read_explanation(study, ledger)
    assert report.effects == expected.objectives
    assert report.to_json()["effects"] == json_of(PrintedExplanation.of(expected))["objectives"]


def test_only_plain_json_comes_out(report):
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["study"] == "fake"


def test_the_name_is_quoted_for_a_shell(report):
    assert replace(report, study_argument="studies/my study.db").to_json()["study_argument"] == "'studies/my study.db'"


def test_a_password_does_not_enter_the_report(finished):
    with finished.opened() as (study, ledger):
        content = read_report(study, ledger, "postgresql+psycopg://me:secret@host/base#fake")
    assert "secret" not in json.dumps(content.to_json())
    assert content.study_argument == "postgresql+psycopg://me:***@host/base#fake"


def test_limits_runs_and_conditions_are_there(report):
    tables = {table.heading: table.rows for table in report.conditions}
    protocols = next(table for table in report.conditions if table.heading == "Protocols")
    assert tables["Limits"] == (("accuracy", ">= 0.86"),)
    assert [row[0] for row in tables["Devices"]] == ["local"]
    assert {row[0] for row in tables["Measurements"]} == set(protocols.columns[1:])
    assert len(tables["Runs"]) == len(report.runs) >= 1  # another test may have run the study once more


def test_stages_are_shown_where_they_ran(make_study):
    study = make_study(trials=1)
    study.runner.cost = lambda job: StageCost(1.5, {}, 1000.0, 2.0, "worker here/7")
    study.run()
    with study.opened() as (opened, ledger):
        timeline = read_report(opened, ledger, "fake").to_json()["timeline"]
    assert [lane["name"] for lane in timeline["lanes"]][0] == "worker here/7"
    assert {"training", "exporting"} <= set(timeline["stage"]["words"])


def test_runs_at_the_same_time_are_counted_and_their_time_is_not(report):
    beside = (Run(1, "here", 2, 0.0, 100.0), Run(2, "there", 2, 50.0, 150.0), Run(3, "here", 2, 500.0, 600.0))
    timeline = replace(report, runs=beside).to_json()["timeline"]
    assert (timeline["runs"], timeline["at_work"]) == (3, [[0.0, 150.0], [500.0, 600.0]])


@pytest.fixture
def report_of(space, plan, fake_study):
    """The report of a study with these records alone."""

    def tell(*records):
        study = Study.open(space)
        for record in records:
            study.tell(study.ask(fake_study.plans(), DriverId.current()), record)
        study.close()
        with fake_study.opened() as (opened, ledger):
            return read_report(opened, ledger, "fake")

    return tell


def test_a_study_without_trials_has_an_empty_report(report_of):
    report = report_of()
    assert (report.trials, report.steps, report.knee) == ((), (), None)
    assert [effect.backbones for effect in report.effects] == [(), ()]
    assert report.to_json()["trials"]["number"] == []


def test_a_failure_is_shown_with_its_reason(report_of, plan):
    failure = {"stage": "train", "kind": "not_finite", "message": "loss is nan"}
    report = report_of(Record("failed", plan, "training failed (not_finite): loss is nan", failure=failure))
    assert [trial.group for trial in report.trials] == [FAILED]
    (shown,) = report.to_json()["failures"]
    assert (shown["trial"], shown["stage"], shown["message"]) == (0, "train", "loss is nan")


def test_what_breaks_a_limit_and_what_was_not_trained_are_told_apart(report_of, plan):
    metrics = Metrics.of({"cpu_ms_p50": 1.0, "accuracy": None})
    report = report_of(
        Record("infeasible", plan, "too slow", metrics=metrics, constraints={"cpu_ms_p50<=0.5": 1.0}),
        Record("not_promoted", plan, "no gain", metrics=metrics),
    )
    assert [trial.group for trial in report.trials] == [OVER_LIMIT, NOT_TRAINED]
