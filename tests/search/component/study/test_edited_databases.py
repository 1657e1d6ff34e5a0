"""Databases of which somebody has edited one thing: shown as ever, or refused in one line that says what and where."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from support.edited_databases import Edited, columns, leaves, texts
from vitsearch.errors import StudyError
from vitsearch.report.data import read_report
from vitsearch.storage.ledger import summaries
from vitsearch.study.lookup import opened

PICKED = {
    "vs_trial.record truncated": "record of trial 0: '{",
    "vs_trial.record infinite": "record of trial 0: ",
    "vs_trial.record metrics.values.accuracy x": "metrics.figures.accuracy.value is 'x', allowed: ",
    "vs_trial.record metrics.values.accuracy inf": "metrics.figures.accuracy.value is inf",
    "vs_trial.record metrics.values.accuracy -1": "accuracy is -1, allowed: 0 to 1",
    "vs_trial.record plan missing": "record of trial 0: 'plan' is missing",
    "vs_study_attribute.data string": "data of the study: it is 'x', allowed: an object",
    "vs_study_attribute.space list": "space of the study: ",
    "vs_study_attribute.leaderboard deep": "leaderboard of the study: is nested too deeply",
    "vs_measurement.result number": "result is 7, allowed: an object",
    "vs_measurement.result job_id missing": "vs_measurement of graph ",
    "vs_evaluation.tally nested": "vs_evaluation of ",
    "vs_evaluation.figures list": "vs_evaluation of ",
    "vs_artifact.detail list": "vs_artifact of ",
    "vs_trial.params truncated": "trial 0: params: ",
    "vs_trial.driver pid x": "trial 0: driver: ",
    "vs_study.objectives list": "objectives of the study: ",
    "vs_run dropped": "no such table: vs_run",
    "vs_run.cores renamed": "no such column: ",
    "vs_run.seen_at inf": "vs_run row 1: seen_at is inf, allowed: seconds since 1970",
    "vs_stage_cost.cpu_seconds 'x'": "vs_stage_cost row 1: cpu_seconds is 'x', allowed: a finite number",
    "vs_stage_cost.stage 'x'": "vs_stage_cost row 1: stage is 'x', allowed: one of data, base, ",
    "vs_trial.state 'x'": "vs_trial row 1: state is 'x', allowed: one of RUNNING, WAITING",
    "vs_trial.number -1": "vs_trial row 1: number is -1, allowed: a whole number from 0",
    "vs_trial.started_at 'x'": "vs_trial row 1: started_at is 'x', allowed: seconds since 1970",
    "a trial is missing": "vs_trial: the last number is ",
    "two versions": "vitsearch_version: it has ",
    "vitsearch_version '9999'": "have version 9999",
}


@pytest.fixture
def edited(finished, tmp_path) -> Edited:
    return Edited(finished.folder / "fake.db", finished.space, tmp_path)


@pytest.fixture(scope="session")
def edits(finished):
    database = finished.folder / "fake.db"
    return {kind.__name__: dict(kind(database)) for kind in (texts, columns, leaves)}


@pytest.mark.parametrize(("name", "said"), PICKED.items())
def test_an_edit_is_named(edited, edits, name, said):
    edit = next(group[name] for group in edits.values() if name in group)
    where = edited.copy_with(edit)
    with pytest.raises(StudyError) as refused, opened(where) as (study, ledger):
        read_report(study, ledger, where)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "fake.db" in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["vs_run.seen_at 'x'", "vs_run.seen_at b'\\xff\\x00'", "vs_run.seen_at inf", "vs_study.name b'\\xff\\x00'"],
)
def test_a_listing_leaves_an_edited_database_out(edited, edits, name):
    with pytest.raises(StudyError, match=r"fake\.db: (studies|vs_run): [^\n]*$"):
        summaries(Path(edited.copy_with(edits["columns"][name])))


def test_a_database_that_nobody_has_edited_is_shown(edited):
    assert edited.wrong([]) == {}


@pytest.mark.long
@pytest.mark.parametrize(("kind", "every"), [("texts", 9), ("columns", 20), ("leaves", 160)])
def test_every_command_shows_an_edited_database_or_refuses_it_in_one_line(edited, edits, kind, every):
    some = islice(edits[kind].items(), 0, None, every)
    wrong = {name: fault for name, edit in some if (fault := edited.wrong(edit))}
    assert wrong == {}
