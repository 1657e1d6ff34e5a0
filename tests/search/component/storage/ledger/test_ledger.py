"""What every database must do for the ledger; a new kind joins by one more parameter of `storage`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from support.evaluations import evaluation
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import (
    ArtifactRow,
    BlockStructureRow,
    Claim,
    EvaluationRow,
    Ledger,
    MeasurementRow,
    ReferenceKey,
    StoredTimes,
    TrainingRow,
)
from vitsearch.storage.stage_cost import StageCost

KEY, OTHER = "a" * 64, "b" * 64
MADE = StageCost(1.5, {"torch": "2.9"})
ANATOMY = BlockStructureRow(KEY, "1" * 64, "28", "2" * 64, {"blocks": [{"heads": 6}]}, {"heads": [[0.5]]}, "3" * 64)
TRAINING = TrainingRow(KEY, 1, {"accuracy": 0.875, "recall_min": 0.5}, 0.25, 1000, "4" * 64)
ARTIFACT = ArtifactRow(KEY, "onnx", "5" * 64, 3 * 10**6, "/store", {"macs_m": 1.5})
EVALUATION = evaluation(KEY, "6" * 64, [[0, 0, 880], [0, 1, 120]])
MEASUREMENT = MeasurementRow(KEY, "5" * 64, "7" * 64, "8" * 64, "screen-1", 0, {"cpu_ms": {"p50": 1.25}})


@pytest.fixture
def ledger(storage):
    ledger = Ledger.open(storage)
    yield ledger
    ledger.close()


def read(ledger, row):
    match row:
        case BlockStructureRow():
            return ledger.block_structure(KEY)
        case TrainingRow():
            return ledger.training(KEY, row.rung)
        case ArtifactRow():
            return ledger.artifact(KEY)
        case EvaluationRow():
            return ledger.evaluation(KEY, row.split)
        case MeasurementRow():
            (measurement,) = ledger.measurements(KEY, row.device_id)
            return measurement


def test_each_row_comes_out_as_it_went_in(ledger):
    for row in (ANATOMY, TRAINING, ARTIFACT, EVALUATION, MEASUREMENT):
        ledger.add(row, MADE)
        assert read(ledger, row) == row
        ledger.forget()  # what it keeps in memory
        assert read(ledger, row) == row


def test_the_versions_that_made_an_artifact_are_told(ledger):
    ledger.add(ARTIFACT, MADE)
    assert ledger.artifact_versions() == {KEY: {"torch": "2.9"}}


def test_when_results_were_made_first_is_told_by_their_keys(ledger):
    for row in (replace(ARTIFACT, artifact_key=OTHER), replace(MEASUREMENT, graph_key="c" * 64), TRAINING):
        ledger.add(row, MADE)
    ledger.add(replace(TRAINING, weights_key="d" * 64, rung=0), MADE)  # a proxy score alone
    before = ledger.made_at()
    assert set(before) == {KEY, OTHER, "c" * 64}
    ledger.add(replace(TRAINING, rung=2), MADE)
    assert ledger.made_at() == before


def test_the_revision_changes_with_each_measurement_and_each_stage(ledger):
    seen = [ledger.revision()]
    ledger.add(MEASUREMENT, MADE)
    seen.append(ledger.revision())
    ledger.costs.start_run("study", 2)
    ledger.costs.note(Stage.TRAIN, MADE)
    ledger.costs.write()
    seen.append(ledger.revision())
    assert len(set(seen)) == 3
    assert ledger.revision() == seen[-1]


def test_what_is_not_there_is_none(ledger):
    assert ledger.block_structure(OTHER) is None
    assert ledger.training(KEY, 0) is None
    assert ledger.artifact(OTHER) is None
    assert ledger.evaluation(KEY, "test") is None
    assert ledger.measurements(KEY, "nobody") == []


@pytest.mark.parametrize(
    ("first", "change"),
    [
        (ANATOMY, {"resolution": "14"}),
        (TRAINING, {"qualities": {}}),
        (ARTIFACT, {"size_bytes": 1}),
        (EVALUATION, {"figures": {}}),
        (MEASUREMENT, {"result": {}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_first_write_wins(ledger, first, change):
    ledger.add(first, MADE)
    ledger.add(replace(first, **change), MADE)
    ledger.forget()
    assert read(ledger, first) == first


def test_each_rung_is_a_row(ledger):
    for rung in (0, 1, 3):
        ledger.add(replace(TRAINING, rung=rung, qualities={"accuracy": rung / 4}), MADE)
    assert [ledger.training(KEY, rung).qualities["accuracy"] for rung in (0, 1, 3)] == [0, 0.25, 0.75]


def test_the_evaluation_on_most_images_is_told(ledger):
    for n in (500, 2000, 1000):
        ledger.add(replace(EVALUATION, n=n), MADE)
    assert ledger.evaluation(KEY, EVALUATION.split).n == 2000
    ledger.add(replace(EVALUATION, n=500, evaluated_on="device-1"), MADE)
    assert ledger.evaluation(KEY, EVALUATION.split).n == 2000
    assert ledger.evaluation(KEY, EVALUATION.split, evaluated_on="device-1").n == 500


def test_measurements_are_told_oldest_first_and_by_protocol(ledger):
    for repeat in (0, 1, 2):
        ledger.add(replace(MEASUREMENT, repeat=repeat), MADE)
    ledger.add(replace(MEASUREMENT, protocol="confirm-1"), MADE)
    ledger.add(replace(MEASUREMENT, device_id="9" * 64), MADE)
    rows = ledger.measurements(KEY, MEASUREMENT.device_id, "screen-1")
    assert [row.repeat for row in rows] == [0, 1, 2]
    assert len(ledger.measurements(KEY, MEASUREMENT.device_id)) == 4


def test_the_numbers_of_measurements_are_told_by_protocol_and_environment(ledger):
    for repeat, environment in ((2, "8" * 64), (0, "8" * 64), (1, "c" * 64)):
        ledger.add(replace(MEASUREMENT, repeat=repeat, environment_id=environment), MADE)
    ledger.add(replace(MEASUREMENT, protocol="confirm-1"), MADE)
    assert ledger.repeats(KEY, MEASUREMENT.device_id, "screen-1") == [0, 1, 2]
    assert ledger.repeats(KEY, MEASUREMENT.device_id, "screen-1", "8" * 64) == [0, 2]
    assert ledger.repeats(OTHER, MEASUREMENT.device_id, "screen-1") == []


def test_all_measurements_of_a_device_are_told_at_once(ledger):
    for graph, device in ((KEY, "7" * 64), (OTHER, "7" * 64), (KEY, "9" * 64)):
        ledger.add(replace(MEASUREMENT, graph_key=graph, device_id=device), MADE)
    assert [row.graph_key for row in ledger.measurements_of_device("7" * 64)] == [KEY, OTHER]
    assert [row.graph_key for row in ledger.measurements_of_graphs([OTHER, "no"], "7" * 64)] == [OTHER]


def test_a_row_that_another_driver_replaced_is_found_after_forgetting_the_old_one(ledger, storage):
    ledger.add(ARTIFACT, MADE)
    assert ledger.artifact(KEY) == ARTIFACT
    other, new = Ledger.open(storage), replace(ARTIFACT, sha256="d" * 64)
    other.drop(ARTIFACT)
    other.add(new, MADE)
    other.close()
    ledger.forget()
    assert ledger.artifact(KEY) == new


def test_a_measurement_in_another_environment_is_another_row(ledger):
    ledger.add(MEASUREMENT, MADE)
    ledger.add(replace(MEASUREMENT, environment_id="c" * 64), MADE)
    assert len(ledger.measurements(KEY, MEASUREMENT.device_id)) == 2


def test_a_claim_keeps_others_out_until_it_is_released(ledger):
    assert ledger.claim(Claim("train:x", "me"), 60)
    assert not ledger.claim(Claim("train:x", "you"), 60)
    assert ledger.claim(Claim("train:y", "you"), 60)
    ledger.release(Claim("train:x", "me"))
    assert ledger.claim(Claim("train:x", "you"), 60)


def test_a_claim_is_renewed_by_who_holds_it(ledger):
    assert ledger.claim(Claim("train:x", "me"), -1)
    assert ledger.claim(Claim("train:x", "me"), 60)
    assert not ledger.claim(Claim("train:x", "you"), 60)


def test_a_claim_that_ran_out_is_taken_over_or_renewed(ledger):
    assert ledger.claim(Claim("train:x", "me"), -1)
    assert not ledger.claim(Claim("train:x", "you"), 60)
    assert not ledger.renew(Claim("train:x", "you"), 60)
    assert list(ledger.expired_claims()) == ["train:x"]
    assert ledger.take_over(Claim("train:x", "you"), 60)
    assert ledger.claims() == {"train:x": "you"}
    assert not ledger.renew(Claim("train:x", "me"), 60)
    assert not ledger.take_over(Claim("train:x", "me"), 60)
    assert ledger.expired_claims() == {}


def test_a_claim_that_ran_out_and_was_renewed_is_not_taken_over(ledger):
    ledger.claim(Claim("train:x", "me"), -1)
    assert ledger.renew(Claim("train:x", "me"), 60)
    assert not ledger.take_over(Claim("train:x", "you"), 60)


def test_only_its_holder_releases_a_claim(ledger):
    ledger.claim(Claim("train:x", "me"), 60)
    ledger.release(Claim("train:x", "you"))
    assert ledger.claims() == {"train:x": "me"}


def test_a_result_gives_its_claim_up(ledger):
    ledger.claim(Claim("export:k", "me"), 60)
    assert ledger.add(ARTIFACT, MADE, Claim("export:k", "me"))
    assert ledger.claims() == {}


def test_what_was_there_keeps_the_claim(ledger):
    ledger.add(ARTIFACT, MADE)
    ledger.claim(Claim("export:k", "me"), 60)
    assert not ledger.add(ARTIFACT, MADE, Claim("export:k", "me"))
    assert ledger.claims() == {"export:k": "me"}


@pytest.mark.parametrize("before", ["free", "run out"])
def test_of_eight_that_race_for_a_claim_one_wins(ledger, before):
    if before == "run out":
        ledger.claim(Claim("train:x", "old"), -1)
    start = Barrier(8)

    def take(number: int) -> bool:
        start.wait()
        claim = Claim("train:x", f"driver {number}")
        return ledger.claim(claim, 60) if before == "free" else ledger.take_over(claim, 60)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_eight_that_write_the_same_row_leave_one(ledger):
    start = Barrier(8)

    def write(number: int) -> None:
        start.wait()
        ledger.add(replace(MEASUREMENT, result={"writer": number}), MADE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(ledger.measurements(KEY, MEASUREMENT.device_id)) == 1


def test_two_ledgers_on_one_database_see_each_other(storage, ledger):
    other = Ledger.open(storage)
    ledger.add(TRAINING, MADE)
    assert other.training(KEY, 1) == TRAINING
    other.close()


def test_reference_times_of_a_device_are_replaced(ledger):
    key = ReferenceKey("7" * 64, "8" * 64, "9" * 64, "onnxruntime", 1)
    assert ledger.reference_times(key.device_id) == {}
    before, now = (
        StoredTimes({"products_cpu_ms": ms}, f"2026-01-0{day}T00:00:00Z") for day, ms in ((1, 2.0), (2, 1.9))
    )
    for times in (before, now):
        ledger.set_reference_times(key, times)
    ledger.set_reference_times(replace(key, threads=4), before)
    ledger.set_reference_times(replace(key, device_id="6" * 64), before)
    assert ledger.reference_times(key.device_id) == {key: now, replace(key, threads=4): before}
