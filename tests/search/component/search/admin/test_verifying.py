"""`studies verify` names all damage, and the next run makes again what it can."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.errors import StudyError
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import read_front


def verified(database, *options):
    done = CliRunner().invoke(app, ["studies", "verify", str(database), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


@pytest.fixture
def study(finished_copy):
    """A copy with its files where `find` looks for them."""
    return finished_copy()


def database_of(study):
    return study.folder.parent / "fake.db"


def change(study, *statements):
    with closing(sqlite3.connect(database_of(study))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_what_a_run_has_written_is_sound(study):
    code, text = verified(database_of(study))
    assert (code, text) == (0, "Every row and every file is as it was written.\n")


def test_all_damage_is_named_and_the_next_run_makes_it_again(study, caplog):
    change(
        study,
        "UPDATE vs_training SET qualities = replace(qualities, '0.', '0.1') WHERE rung > 0",
        "UPDATE vs_measurement SET result = replace(result, 'cpu', 'gpu') WHERE id = 1",
        "UPDATE vs_evaluation SET n = n + 1",
    )
    model = next((study.folder / "artifacts").rglob("*.onnx"))
    model.write_bytes(b"other bytes")
    code, text = verified(database_of(study), "--json")
    damages = json.loads(text)
    assert (code, {damage["made_again"] for damage in damages}) == (1, {True})
    places = {damage["place"] for damage in damages}
    assert places == {"vs_training", "vs_measurement", "vs_evaluation", "files"}
    assert model.parent.name + model.stem in {damage["key"] for damage in damages}
    with study.opened() as (opened, ledger):
        rows = opened.records().values()
        assert all(ledger.evaluation(row.keys.artifact_key or "", opened.judged_by) is None for row in rows if row.keys)
    assert study.run().complete


def test_a_damaged_trial_is_left_out_with_a_sentence(study, caplog):
    change(study, "UPDATE vs_trial SET record = replace(record, '0.', '0.1') WHERE number = 2")
    caplog.set_level("WARNING")
    with study.opened() as (opened, ledger):
        assert 2 not in opened.records()
        assert all(point.trial != 2 for point in read_front(opened, ledger).points)
    assert any("trial 2 in vs_trial was damaged or edited" in message for message in caplog.messages)
    code, text = verified(database_of(study))
    assert (code, "vs_trial 2: " in text) == (1, True)
    assert study.run().complete


def test_who_only_reads_gets_one_sentence_and_drops_nothing(study):
    change(study, "UPDATE vs_artifact SET size_bytes = size_bytes + 1")
    ledger = Ledger.to_read(study.space.storage)
    with (
        closing(ledger),
        pytest.raises(StudyError, match="in vs_artifact was damaged .* makes it again$"),
    ):
        ledger.artifact_versions()
    assert verified(database_of(study))[0] == 1


def test_an_attribute_that_is_damaged_is_refused(study):
    change(study, "UPDATE vs_study_attribute SET value = replace(value, 'maximize', 'minimize') WHERE name = 'space'")
    with pytest.raises(StudyError, match="space in vs_study_attribute was damaged .* restore a copy of the database$"):
        study.records()


def test_indexes_that_do_not_fit_their_table_are_named(study):
    other = "sql = replace(sql, 'graph_key)', 'structure)') WHERE name = 'ix_vs_measurement_graph_key'"
    change(study, "PRAGMA writable_schema = ON", f"UPDATE sqlite_master SET {other}")
    with pytest.raises(StudyError, match="fake.db"):
        Ledger.to_read(study.space.storage)
    assert verified(database_of(study))[0] == 1
