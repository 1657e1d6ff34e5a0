"""What a database holds: its studies, and the files that its results name."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest
from sqlalchemy import text

from support.seals import reseal
from vitsearch.core.decoding import Damaged
from vitsearch.core.stage import Stage
from vitsearch.errors import StudyDeleted, StudyError
from vitsearch.storage.ledger import ArtifactRow, BlockStructureRow, Claim, Ledger, RunState, TrainingRow, summaries
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.study import Study


def test_files_of_every_kind_of_result_are_named(ledger: Ledger):
    cost = StageCost(0.0)
    ledger.add(ArtifactRow("a", "model", "model", 1, "here", {"judged_sha256": "judged"}), cost)
    ledger.add(ArtifactRow("l", "logits", "logits", 1, "here", {}), cost)
    ledger.add(ArtifactRow("s", Stage.SCREEN.value, "screened", 1, "here", {}), cost)
    others = {"outputs_sha256": "outputs", "masks_sha256": None, "reference_sha256": "reference", "sha256": "a split"}
    ledger.add(ArtifactRow("ship", Stage.SHIP.value, "images", 1, "here", others), cost)
    ledger.add(TrainingRow("w", 1, {"accuracy": 0.9}, 0.1, 1, "checkpoint"), cost)
    ledger.add(TrainingRow("w", 0, {"accuracy": 0.9}, 0.1, 1, None), cost)
    ledger.add(BlockStructureRow("b", "weights", "28", "c", {}, {}, "statistics"), cost)
    of_ship = {"images", "outputs", "reference"}
    assert ledger.inventory.named_files() == {"model", "judged", "logits", "checkpoint", "statistics"} | of_ship


def test_only_claims_that_have_not_run_out_are_alive(ledger: Ledger):
    ledger.claim(Claim("one", "me"), 60.0)
    ledger.claim(Claim("other", "me"), -1.0)
    assert ledger.inventory.live_claims() == 1


def test_a_study_without_a_run_is_named(space, tmp_path):
    Study.open(space).close()
    (summary,) = summaries(tmp_path / "fake.db")
    assert (summary.name, summary.trials, summary.models, summary.open, summary.last_run) == ("fake", 0, 0, 0, None)


def test_a_trial_that_repeats_another_is_no_further_model(space, tmp_path):
    Study.open(space).close()
    connection = sqlite3.connect(tmp_path / "fake.db")
    for number, duplicate_of in enumerate((None, 0)):
        record = json.dumps({"outcome": "confirmed", "duplicate_of": duplicate_of})
        connection.execute(
            "INSERT INTO vs_trial (study, number, state, params, notes, record, asked_digest) "
            "VALUES (1, ?, 'COMPLETE', '{}', '{}', ?, '')",
            (number, record),
        )
    connection.commit()
    connection.close()
    reseal(tmp_path / "fake.db")
    (summary,) = summaries(tmp_path / "fake.db")
    assert (summary.trials, summary.models) == (2, 1)


def test_a_foreign_database_is_none_of_ours(tmp_path):
    connection = sqlite3.connect(tmp_path / "foreign.db")
    connection.execute("CREATE TABLE studies_of_others (name TEXT)")
    connection.close()
    assert summaries(tmp_path / "foreign.db") is None
    with pytest.raises(StudyError, match=r"missing\.db does not exist"):
        summaries(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_a_run_lives_until_it_ends(ledger):
    ledger.costs.start_run("fake", 2)
    (run,) = ledger.inventory.live_runs("fake")
    assert run.driver.pid == os.getpid()
    assert ledger.inventory.live_runs("other") == []
    ledger.costs.end_run()
    assert ledger.inventory.live_runs("fake") == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("seen_at", "seen_at - 1000"), ("driver", "NULL"), ("driver", "replace(driver, 'pid\": ', 'pid\": 9')")],
)
def test_a_run_without_a_sign_of_life_does_not_live(ledger, column, value):
    ledger.costs.start_run("fake", 2)
    with ledger._engine.begin() as connection:
        connection.execute(text(f"UPDATE vs_run SET {column} = {value}"))
    assert ledger.inventory.live_runs("fake") == []


def test_a_run_that_is_told_to_end_hears_it_at_its_next_sign_of_life(ledger):
    ledger.costs.start_run("fake", 2)
    ledger.inventory.request_stop("other", "by me")
    ledger.costs.record_heartbeat()
    ledger.inventory.request_stop("fake", "by me on this machine")
    with pytest.raises(StudyDeleted, match="study 'fake' is being deleted by me on this machine; this run ends"):
        ledger.costs.record_heartbeat()


def test_what_a_run_does_now_is_known_elsewhere(ledger):
    ledger.costs.start_run("fake", 2)
    state = RunState({"training a base: vit": "epoch 2/5"}, "waits for files s3://team/vit, 12 s so far")
    ledger.costs.tell(state)
    (run,) = ledger.inventory.live_runs("fake")
    assert run.now == state
    assert run.now.doing == {"training a base: vit": "epoch 2/5"}


@pytest.mark.parametrize("stored", ['{"doing": 7}', '{"doing": {}, "more": 1}', "[]"])
def test_what_a_run_never_stored_of_what_it_does_is_refused(ledger, stored):
    ledger.costs.start_run("fake", 2)
    with ledger._engine.begin() as connection:
        connection.execute(text("UPDATE vs_run SET now = :now"), {"now": stored})
    with pytest.raises(Damaged, match="vs_run: now"):
        ledger.inventory.live_runs("fake")
