import json
import os

import pytest

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.accuracy_job import measure_accuracy, wilson
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.wire.protocol import ACCURACY, BlobRef, JobSpec

CONTEXT = JobContext("a1" * 32, "device-1", "c3" * 32, 2, 0.5)
NAMES = ("model.onnx", "images.npy", "labels.npy")
SPEC = JobSpec("accuracy", tuple(BlobRef(name, "b2" * 32, 1) for name in NAMES), "noop", {}, ACCURACY)
REPORT = {"n": 4, "correct": 3, "not_finite": 0, "classes": 2, "runtime_version": "1", "options": {}}
REPORT.update({"confusion": [[0, 0, 2], [1, 0, 1], [1, 1, 1]], "batch": 16, "shapes": {"images": [16, 3, 8, 8]}})


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(9, 10, 0.596, 0.982), (0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0)]
)
def test_wilson_interval(correct, n, low, high):
    # Newcombe 1998 and R's prop.test(correct=FALSE)
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-4)


def test_the_interval_contains_a_share_of_0_or_1():
    for n in range(1, 500):
        assert wilson(0, n)[0] == 0.0 < wilson(0, n)[1]
        assert wilson(n, n)[0] < wilson(n, n)[1] == 1.0


def store(folder, report, logits):
    (folder / f"answer-{'c3' * 8}-accuracy.json").write_text(json.dumps({"report": report}))
    (folder / "logits.f32").write_bytes(logits)


def test_the_answer_of_an_interrupted_attempt_is_used(tmp_path):
    store(tmp_path, REPORT, bytes(32))
    result = measure_accuracy(SPEC, CONTEXT, JobFolder(str(tmp_path), StopSignal()), lambda path: "d4" * 32)
    assert (result.correct, result.logits_sha256, result.attempts) == (3, "d4" * 32, 2)


@pytest.mark.parametrize("damaged", [b"\0" * 200, b"[]"])
def test_a_damaged_answer_is_measured_again(tmp_path, monkeypatch, damaged):
    store(tmp_path, REPORT, bytes(32))
    (tmp_path / f"answer-{'c3' * 8}-accuracy.json").write_bytes(damaged)
    again = dict(REPORT, correct=2, confusion=[[0, 0, 2], [1, 0, 2]])
    monkeypatch.setattr(JobFolder, "run", lambda *_: {"report": again})
    assert measure_accuracy(SPEC, CONTEXT, JobFolder(str(tmp_path), StopSignal()), lambda path: "d4" * 32).correct == 2


@pytest.mark.parametrize("make", ["link", "fifo", "nothing"])
def test_logits_that_are_no_file_are_not_kept(tmp_path, monkeypatch, make):
    """A model that runs code could link to a file that it may not read, and have the agent publish it."""
    store(tmp_path, REPORT, bytes(32))
    (tmp_path / "logits.f32").rename(tmp_path / "other")
    if make == "link":
        (tmp_path / "logits.f32").symlink_to(tmp_path / "other")
    if make == "fifo":
        os.mkfifo(str(tmp_path / "logits.f32"))
    monkeypatch.setattr(JobFolder, "run", lambda *_: {"report": REPORT})
    with pytest.raises(MeasurementFailed, match="the logits ") as caught:
        measure_accuracy(SPEC, CONTEXT, JobFolder(str(tmp_path), StopSignal()), lambda path: "d4" * 32)
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize(
    ("report", "size"),
    [
        (REPORT, 31),
        (dict(REPORT, not_finite=2), 32),
        ({"n": 4}, 32),
        (dict(REPORT, more=1), 32),
        (dict(REPORT, correct=2), 32),
        (dict(REPORT, confusion=[[0, 0, 3]]), 32),
        (dict(REPORT, confusion=[[0, 0, 3], [0, 5, 1]]), 32),
        (dict(REPORT, confusion=[[0, 0, 1], [0, 0, 2], [1, 0, 1]]), 32),
        (dict(REPORT, confusion=[[0, 0, 3], [1, 0]]), 32),
    ],
)
def test_an_inconsistent_answer_is_a_protocol_failure(tmp_path, report, size):
    store(tmp_path, report, bytes(size))
    with pytest.raises(MeasurementFailed) as caught:
        measure_accuracy(SPEC, CONTEXT, JobFolder(str(tmp_path), StopSignal()), lambda path: "d4" * 32)
    assert caught.value.kind == "protocol"
