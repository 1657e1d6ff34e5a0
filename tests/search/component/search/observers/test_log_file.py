"""The JSON lines of a run."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime
from pathlib import Path

import pytest

from vitsearch.core.stage import Stage
from vitsearch.errors import StageError, StoreError
from vitsearch.search.observers.log_file import LogFile, new_log_file
from vitsearch.stages import TrainJob
from vitsearch.testing.fakes import FakeRunner


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "run.jsonl"


@pytest.fixture
def lines(path):
    return lambda event: [line for line in map(json.loads, path.read_text().splitlines()) if line["event"] == event]


@pytest.fixture
def logged(path, run_with):
    with LogFile.opened(path, "fake") as log:
        return run_with(log)


def test_every_stage_has_its_seconds_and_the_trial_that_wanted_it(logged, lines):
    ended = lines("stage_ended")
    assert len(ended) == len(lines("stage_started")) > 0
    assert all(line["seconds"] >= 0.0 and line["error"] is None for line in ended)
    trained = next(number for number, record in logged.records().items() if record.was_trained)
    assert {line["trial"] for line in ended if line["stage"] == Stage.TRAIN} == {trained}
    assert all("trial" not in line for line in ended if line["stage"] == Stage.BASE)


def test_every_trial_ends_with_its_record(logged, lines):
    written = {line["trial"]: line for line in lines("trial_ended")}
    records = logged.records()
    assert written.keys() == records.keys()
    for number, record in records.items():
        key = record.keys.artifact_key if record.keys else None
        line = written[number]
        assert (line["reason"], line["metrics"], line["artifact_key"]) == (record.reason, record.metrics.values, key)


def test_every_line_says_when_where_and_which_study(logged, path):
    for line in map(json.loads, path.read_text().splitlines()):
        assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0
        assert line["study"] == "fake"
        assert line.keys() >= {"host", "pid"}


@pytest.mark.long
def test_a_stage_that_fails_has_its_error(path, run_with, lines):
    def fail(job):
        if isinstance(job, TrainJob):
            raise StageError("train", "crash", "no more")

    with LogFile.opened(path, "fake") as log:
        run_with(log, runner=FakeRunner(before=fail))
    failed = [line for line in lines("stage_ended") if line["stage"] == Stage.TRAIN]
    assert {line["error"] for line in failed} == {"training failed (crash): no more"}


def test_a_warning_of_ours_has_its_trial_and_stage_and_is_printed(path, run_with, lines, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest

    def warn(job):
        if isinstance(job, TrainJob):
            logging.getLogger("vitsearch.somewhere").warning("%s is odd", "this")

    with LogFile.opened(path, "fake") as log:
        run_with(log, runner=FakeRunner(before=warn))
    (line,) = lines("log")
    assert (line["text"], line["level"], line["stage"]) == ("this is odd", "warning", "train")
    assert line["trial"] == lines("stage_started")[-1].get("trial", line["trial"])
    assert capsys.readouterr().err == "this is odd\n"


def test_a_run_that_is_interrupted_says_so(path, lines):
    with pytest.raises(KeyboardInterrupt), LogFile.opened(path, "fake"):
        raise KeyboardInterrupt
    assert [line["error"] for line in lines("run_ended")] == ["KeyboardInterrupt"]


def test_runs_with_one_file_follow_each_other(path, lines):
    for _ in range(2):
        with LogFile.opened(path, "fake"):
            pass
    assert len(lines("run_started")) == len(lines("run_ended")) == 2


def test_waiting_is_written_once(path, lines):
    with LogFile.opened(path, "fake") as log:
        log.waits("for 15 s")
        log.waits("for 16 s")
        log.waits(None)
    assert [line["text"] for line in lines("waits")] == ["for 15 s"]


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with (
        pytest.raises(StoreError, match=r"log file .* cannot be written: Is a directory"),
        LogFile.opened(tmp_path, "fake"),
    ):
        pass


def test_a_full_disk_ends_the_log_and_not_the_run(warnings_of, run_with):
    heard = warnings_of("vitsearch.search.observers.log_file")
    with LogFile.opened(Path("/dev/full"), "fake") as log:
        assert run_with(log).trained == 1
    assert heard == ["the log of this run ends here: [Errno 28] No space left on device"]


def test_each_run_has_a_file_of_its_own(tmp_path):
    assert new_log_file(tmp_path).suffix == ".jsonl"
    assert new_log_file(tmp_path).parent == tmp_path


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "log")
    with (
        pytest.raises(StoreError, match=r"log file .* cannot be written: it is a pipe"),
        LogFile.opened(tmp_path / "log", "fake"),
    ):
        pass
