"""One trial of a study in full."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from support.terminal import shown
from vitsearch.cli.results.show import print_detail
from vitsearch.core.figures import NO_METRICS
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_text
from vitsearch.core.record import Record
from vitsearch.errors import StudyError
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.front import read_models
from vitsearch.study.printed.details import PrintedDetail
from vitsearch.study.results.detail import place_of, point_of, read_detail
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study


@pytest.fixture
def detail(finished):
    def read(number):
        with finished.opened() as (study, ledger):
            return read_detail(study, ledger, FileStore(finished.folder / "artifacts"), number)

    return read


def first(finished, outcome, **where):
    return next(number for number, record in finished.records().items() if record.outcome == outcome)


def test_a_confirmed_trial_has_its_file_limits_measurements_and_stages(finished, detail):
    number = first(finished, "confirmed")
    shown_trial = detail(number)
    assert shown_trial.file.path.is_file()
    assert shown_trial.file.path.parent.name + shown_trial.file.path.stem == shown_trial.file.sha256
    assert [limit.is_met for limit in shown_trial.limits] == [True]
    assert shown_trial.limits[0].name.startswith("accuracy>=")
    assert shown_trial.measurements
    assert {"measure", "export"} <= {run.stage.value for run in shown_trial.stages}
    assert [run.made_at for run in shown_trial.stages] == sorted(run.made_at for run in shown_trial.stages)


def test_a_trial_that_was_not_trained_has_its_reason_and_no_file(finished, detail):
    number = next(n for n, record in finished.records().items() if record.outcome in ("not_promoted", "dominated"))
    shown_trial = detail(number)
    assert shown_trial.file is None
    assert shown_trial.place == "not confirmed: its accuracy was not evaluated"
    text = shown(print_detail, shown_trial, width=400)
    assert f": {finished.records()[number].reason}" in text
    assert "file:    none was exported" in text


@pytest.mark.long
def test_every_trial_can_be_shown_and_is_json(finished, detail):
    for number in finished.records():
        shown_trial = detail(number)
        value = json.loads(json_text(PrintedDetail.of(shown_trial)))
        assert value["trial"] == number
        assert shown(print_detail, shown_trial, width=80).startswith(f"Trial {number} of study fake\nfake_vit@")


def test_a_model_without_labels_has_its_cosine_and_what_accuracy_is(finished, detail):
    labelled = detail(first(finished, "confirmed"))
    unlabelled = replace(labelled, labelled_by="theirs", file=replace(labelled.file, cosine=0.99871))
    text = shown(print_detail, unlabelled, width=400)
    assert "\ncosine:  0.998710 of its logits to those of fp32 (mean, validation images)\n" in text
    assert "\naccuracy is the agreement with the fp32 outputs of theirs itself in onnxruntime, as the images" in text
    printed = json.loads(json_text(PrintedDetail.of(unlabelled)))
    assert (printed["labelled_by"], printed["file"]["cosine"]) == ("theirs", 0.99871)
    assert "cosine:" not in shown(print_detail, labelled, width=400)
    assert "no labels" not in shown(print_detail, labelled, width=400)


def test_a_number_that_is_no_finished_trial_is_refused_with_those_that_are(finished, detail):
    last = max(finished.records())
    with pytest.raises(StudyError) as caught:
        detail(last + 7)
    assert str(caught.value) == f"study 'fake' has no finished trial {last + 7}; finished trials: 0 to {last}"


def test_a_study_without_a_trial_says_so(make_study, tmp_path):
    study = make_study(trials=0)
    study.run()
    with study.opened() as (opened, ledger), pytest.raises(StudyError, match="has no finished trial 99; finished"):
        read_detail(opened, ledger, FileStore(tmp_path), 99)


def test_a_duplicate_is_shown_as_one_with_all_that_is_known_of_its_model(finished):
    """The record has the values that its model had when the duplicate ended."""
    with finished.opened() as (study, ledger):
        models, records = read_models(study, ledger), study.records()
    knee = models.points[models.knee]
    old = replace(records[knee.trial], duplicate_of=knee.trial, metrics=NO_METRICS)
    point = point_of(models, 999, old)
    assert (point.trial, point.metrics) == (999, knee.metrics)
    assert old.shown_outcome == "duplicate"


def test_a_file_that_is_gone_is_said(finished, detail, tmp_path):
    number = first(finished, "confirmed")
    with finished.opened() as (study, ledger):
        shown_trial = read_detail(study, ledger, FileStore(tmp_path / "elsewhere"), number)
    assert shown_trial.file.path is None
    assert "file:    not on this machine; the store is " in shown(print_detail, shown_trial)


def test_the_place_of_a_trial_is_in_words(finished):
    with finished.opened() as (study, ledger):
        models, records = read_models(study, ledger), study.records()
    knee = models.points[models.knee]
    places = {number: place_of(models, point_of(models, number, record), record) for number, record in records.items()}
    assert places[knee.trial] == "on the front, its knee"
    assert all(places[point.trial].startswith("on the front") for point in models.points)
    assert all(places[point.trial].startswith("dominated by trial") for point in models.others if point.feasible)
    broken = replace(knee, breaks=("accuracy>=0.99",))
    assert place_of(models, broken, records[knee.trial]) == "breaks accuracy>=0.99"


def test_a_trial_that_was_too_slow_to_be_trained_names_its_limits(finished):
    with finished.opened() as (study, ledger):
        models, records = read_models(study, ledger), study.records()
    plan = next(iter(records.values())).plan
    slow = Record("infeasible", plan, "too slow", constraints={"cpu_ms_p50<=2": 0.5, "size_mb<=9": -1.0})
    point = point_of(models, 999, slow)
    assert (point.breaks, point.feasible) == (("cpu_ms_p50<=2",), False)
    assert place_of(models, point, slow) == "breaks cpu_ms_p50<=2"


def test_the_costs_of_stages_are_those_of_the_runs_that_made_them(make_study, tmp_path):
    study = make_study(trials=1)
    study.runner.cost = lambda job: StageCost(0.25, {}, 1000.0, 0.5, "worker here/1")
    study.run()
    with study.opened() as (opened, ledger):
        number = next(n for n, record in opened.records().items() if record.is_confirmed)
        shown_trial = read_detail(opened, ledger, FileStore(tmp_path), number)
    of_workers = [run for run in shown_trial.stages if run.stage != "measure"]
    assert {run.cost.wall_seconds for run in of_workers} == {0.5}
    assert "not run for this model" not in shown(print_detail, shown_trial)


def test_which_figures_are_those_of_a_quiet_machine_is_said(finished, tmp_path):
    with finished.opened() as (study, ledger):
        shown_trial = read_detail(study, ledger, FileStore(tmp_path), None)
    beside = replace(shown_trial, point=replace(shown_trial.point, basis="paired"))
    assert "The times as measured are" in shown(print_detail, beside, width=400)
    assert "times as measured" not in shown(print_detail, shown_trial)


def test_a_failed_trial_has_its_failure_and_nothing_else(space, plan, tmp_path):
    plans = PlanSpace(space, "local", lambda backbone, knob, value: None, lambda backbone: ImageSize.square(28))
    ledger, study = Ledger.open(space.storage), Study.open(space)
    trial = study.ask(plans, DriverId.current())
    failure = {"stage": "export", "kind": "crash", "message": "boom"}
    study.tell(trial, Record("failed", trial.plan, "exporting failed (crash): boom", failure=failure))
    shown_trial = read_detail(study, ledger, FileStore(tmp_path), trial.number)
    value = json.loads(json_text(PrintedDetail.of(shown_trial)))
    assert (value["keys"], value["file"], value["stages"], value["failure"]) == (None, None, [], failure)
    text = shown(print_detail, shown_trial)
    assert "failure: stage export, kind crash, message boom" in text
    study.close()
    ledger.close()
