"""A search that dies in a stage goes on where it was, between two fakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from support import PYTHON_PATH, TESTS
from vitsearch_agent.errors import DeviceUnreachable


class Killed(BaseException):
    """Stands for whatever ends a process from within."""


STAGES = (
    "base", "block_structure", "screen",
    "proxy", "logits", "train", "export",
)  # fmt: skip


def crash_at(name, nth, error):
    seen = Counter()

    def before(job):
        seen[job.stage] += 1
        if job.stage == name and seen[name] == nth:
            raise error

    return before


@pytest.mark.parametrize(("stage", "nth"), [(stage, 1) for stage in STAGES] + [("train", 2), ("export", 3)])
def test_a_crash_in_a_stage_repeats_nothing_and_leaves_nothing_open(fake_study, stage, nth):
    study = fake_study.with_space(search__trials=2)
    study.runner.before = crash_at(stage, nth, Killed())
    with pytest.raises(Killed):
        study.run()
    assert TrialState.RUNNING not in study.numbers_by_state()
    study.runner.before = lambda job: None
    assert study.run().complete
    assert study.trained == 2
    assert study.numbers_by_state().keys() <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING}
    stages = study.runner.runs
    assert (stages["base"], stages["logits"]) == (1, 2)
    assert stages["train"] == study.trained
    assert stages["export"] == study.artifacts
    with study.opened() as (_, ledger):
        assert ledger.claims() == {}
        assert stages["proxy"] == len({r.keys.weights_key for r in study.records().values() if r.proxy})


@pytest.mark.parametrize(
    ("nth", "error"),
    [(1, Killed()), (3, DeviceUnreachable("gone")), (5, KeyboardInterrupt()), (7, Killed())],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_crash_while_measuring_repeats_nothing(fake_study, nth, error):
    study = fake_study.with_space(search__trials=2)
    calls = Counter()

    def before(path):
        calls["measure"] += 1
        if calls["measure"] == nth:
            raise error

    study.device.before = before
    with pytest.raises(type(error)):
        study.run()
    assert TrialState.RUNNING not in study.numbers_by_state()
    study.device.before = lambda path: None
    assert study.run().complete
    assert study.trained == 2
    assert study.runner.runs["train"] == study.trained
    with study.opened() as (opened, ledger):
        keys = {record.keys.graph_key for record in opened.records().values()}
        rows = [row for key in keys for row in ledger.measurements(key, study.device.info.device_id)]
    base = 1 + 1  # the baseline's confirmation measurement, and the final one; its graph may be a trial's too
    assert len(rows) <= sum(study.device.measured.values()) <= len(rows) + base


KILLED = """
import importlib.util, json, os, pathlib, signal, sys
home, folder, space, stage, nth = sys.argv[1:]
spec = importlib.util.spec_from_file_location("conftest", home)
conftest = sys.modules["conftest"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
study = conftest.FakeStudy(pathlib.Path(folder), conftest.SearchSpace.from_json(json.loads(space)))

def before(job):
    if job.stage == stage and study.runner.runs[stage] == int(nth) - 1:
        os.kill(os.getpid(), signal.SIGKILL)

study.runner.before = before
study.run()
"""


@pytest.mark.parametrize(("stage", "nth"), [("train", 1), ("export", 3)])
@pytest.mark.long
def test_a_run_after_a_sigkill_goes_on_where_it_was(fake_study, stage, nth):
    study = fake_study.with_space(search__trials=2)
    home = Path(TESTS, "search", "conftest.py")
    arguments = [home, study.folder, json.dumps(study.space.to_json()), stage, str(nth)]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    run = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    with study.opened() as (opened, ledger):
        open_then = [trial.number for trial in opened.as_optuna() if trial.state == TrialState.RUNNING]
        assert ledger.claims() != {}
    assert study.run().complete
    assert study.trained == 2
    stages = study.runner.runs
    assert stages["base"] == 0  # found in the ledger
    assert stages["train"] <= study.trained - (nth > 1)
    with study.opened() as (opened, ledger):
        assert ledger.claims() == {}
        states = {trial.number: trial.state for trial in opened.as_optuna()}
    assert TrialState.RUNNING not in states.values()
    assert TrialState.FAIL not in states.values()
    assert open_then
    assert set(open_then) <= study.records().keys()  # adopted by number, and ended
