"""The selftest with real processes, on a device without a runtime: all but the runtimes is tried."""

import json
import time

import pytest

from vitsearch_agent import runtimes
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.cli import app
from vitsearch_agent.errors import AgentError
from vitsearch_agent.selftest import selftest as module
from vitsearch_agent.selftest.report import FAILED, PASSED, SKIPPED, Finding, SelftestReport
from vitsearch_agent.selftest.selftest import Selftest, Subject, selftest
from vitsearch_agent.selftest.steps import SHORT, Settings

TINY = SHORT._replace(warmup_min_runs=1, min_s=0.0)
QUICK = Settings(60.0, 2, 100.0, 0.2, 0.2, 0.1, TINY, TINY, TINY)


@pytest.fixture
def without_runtimes(monkeypatch):
    table = {"noop": runtimes.table()["noop"]}
    monkeypatch.setattr(runtimes, "table", lambda: table)
    monkeypatch.setattr(module.processes, "adopt_orphans", lambda: None)


def test_every_step_has_an_outcome_and_a_killed_agent_finishes_its_job(without_runtimes, tmp_path):
    subject = Subject(THIS_MACHINE, None, lambda folder: Finding(PASSED, folder))
    report = selftest(subject, str(tmp_path), lambda step: None, QUICK)
    outcomes = {step.name: step.outcome for step in report.steps}
    repeated = outcomes.pop("repeatability of noop")  # two runs of a few ms on a machine that does other work too
    assert repeated in (PASSED, FAILED)
    assert outcomes.pop("heat") in (PASSED, SKIPPED)  # by the sensors of this machine
    assert outcomes.pop("power meters") in (PASSED, SKIPPED)
    assert outcomes.pop("restrictions") in (PASSED, SKIPPED)
    assert outcomes == {"installation": PASSED, "runtimes": SKIPPED, "environment": PASSED, "kill and resume": PASSED}
    killed = next(step for step in report.steps if step.name == "kill and resume")
    assert killed.details["measurement"]["attempts"] == 2
    assert "interrupted" in killed.details["events"]
    assert report.device.fingerprint["cores"] == report.steps[3].details["fingerprint"]["cores"]
    assert "/proc/cpuinfo" in report.recording.files
    stored = json.loads(json.dumps(report.to_json()))
    assert SelftestReport.from_json(stored).to_json() == stored


def test_the_command_writes_the_file_and_says_so(without_runtimes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_steps", lambda test, runs, settings: None)
    path = tmp_path / "report.json"
    assert app.main(["selftest", "--to", str(path)]) in (0, 1)  # 1: no openssl here
    report = SelftestReport.from_json(json.loads(path.read_text()))
    assert [step.name for step in report.steps] == ["installation"]
    printed = capsys.readouterr().out
    assert "installation (" in printed
    assert f"wrote {path} (" in printed


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    assert app.main(["selftest", "--to", str(tmp_path / "missing" / "report.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert app.main(["selftest", "--to", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("error", "message"), [(AgentError("state", "no disk"), "no disk"), (ValueError("odd"), "ValueError: odd")]
)
def test_a_step_that_fails_does_not_end_the_others(error, message):
    test = Selftest(60.0, lambda step: None)

    def work():
        raise error

    test.step("first", work)
    test.step("second", lambda: Finding(PASSED, "fine"))
    assert [(step.outcome, step.message) for step in test.results] == [(FAILED, message), (PASSED, "fine")]


def test_a_step_ends_when_the_time_is_over_and_no_other_one_starts():
    test = Selftest(0.2, lambda step: None)
    started = []

    def endless():
        started.append(True)
        while True:
            time.sleep(0.01)

    test.step("first", endless)
    test.step("second", endless)
    assert [step.outcome for step in test.results] == [SKIPPED, SKIPPED]
    assert started == [True]
    assert test.results[1].message == "the 0.2 s of a selftest were over"
