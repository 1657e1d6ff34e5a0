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
    "trial_user_attributes.record truncated": "record of trial 0: '{",
    "trial_user_attributes.record infinite": "record of trial 0: ",
    "trial_user_attributes.record metrics.values.accuracy x": "metrics.figures.accuracy.value is 'x', allowed: ",
    "trial_user_attributes.record metrics.values.accuracy inf": "metrics.figures.accuracy.value is inf",
    "trial_user_attributes.record metrics.values.accuracy -1": "accuracy is -1, allowed: 0 to 1",
    "trial_user_attributes.record plan missing": "record of trial 0: 'plan' is missing",
    "study_user_attributes.data string": "data of the study: it is 'x', allowed: an object",
    "study_user_attributes.space list": "space of the study: ",
    "study_user_attributes.leaderboard deep": "leaderboard of the study: is nested too deeply",
    "vs_measurement.result number": "vs_measurement row 1: result is 7",
    "vs_measurement.result job_id missing": "vs_measurement of graph ",
    "vs_accuracy.confusion nested": "vs_accuracy of ",
    "vs_artifact.detail list": "vs_artifact of ",
    "trial_params.distribution_json truncated": "trial 0: ",
    "vs_run dropped": "no such table: vs_run",
    "vs_run.cores renamed": "no such column: ",
    "vs_run.seen_at inf": "vs_run row 1: seen_at is inf, allowed: seconds since 1970",
    "vs_stage_cost.cpu_seconds 'x'": "vs_stage_cost row 1: cpu_seconds is 'x', allowed: a finite number",
    "vs_stage_cost.stage 'x'": "vs_stage_cost row 1: stage is 'x', allowed: one of data, base, ",
    "trials.state 'x'": "trials row 1: state is 'x', allowed: one of RUNNING, COMPLETE",
    "trials.number -1": "trials row 1: number is -1, allowed: a whole number from 0",
    "trials.datetime_start 'x'": "trials row 1: datetime_start is 'x', allowed: a date and time",
    "trial numbers twice": "trials: several have the number 0",
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
    edit = next(known[name] for known in edits.values() if name in known)
    where = edited.copy_with(edit)
    with pytest.raises(StudyError) as refused, opened(where) as (study, ledger):
        read_report(study, ledger, where)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "fake.db" in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["vs_run.seen_at 'x'", "vs_run.seen_at b'\\xff\\x00'", "vs_run.seen_at inf", "studies.study_name b'\\xff\\x00'"],
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
    wrong = {name: found for name, edit in some if (found := edited.wrong(edit))}
    assert wrong == {}
