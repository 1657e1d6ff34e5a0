"""Thirty drivers of studies on PostgreSQL are killed, at statements of the database. Each next one goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from support import PYTHON_PATH
from support.real_search import TABLES
from vitsearch.cli.app import app
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import files_folder

KILLS = 30
TRIALS = 12
STATEMENTS = 300
"""Each driver is killed at one of its first statements, up to this number; a run of `TRIALS` has some hundreds."""


@contextmanager
def drivers(folder):
    """Give it what a driver does (`killed_drivers`); it returns how the driver ended."""
    command = [sys.executable, "-m", "support.killed_drivers", str(folder)]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, cwd=folder.parent.parent, **pipes) as process:

        def drive(**asked):
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield drive
        process.stdin.close()


def rows(url):
    """When each finished stage was written."""
    engine = create_engine(url)
    found = {}
    with engine.connect() as connection:
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        there = {name for (name,) in connection.execute(text(tables))}
        for table in TABLES.keys() & there:
            query = text(f"SELECT {TABLES[table].replace(':', chr(92) + ':')}, created_at FROM {table}")
            found |= {f"{table} {key}": at for key, at in connection.execute(query)}
    engine.dispose()
    return found


def begun(study):
    path = study.folder / "begun"
    return path.read_text().split() if path.exists() else []


def trainings_in(found):
    return [name for name in found if name.startswith("vs_training") and not name.endswith(":0")]


@pytest.fixture
def new_study(make_study, postgresql, tmp_path, monkeypatch):
    """Make a study on a database of its own, whose files are where every command finds them."""
    monkeypatch.chdir(tmp_path)

    def new():
        study, url = make_study(trials=TRIALS), postgresql()
        folder = tmp_path / files_folder(url)
        folder.mkdir(parents=True)
        return replace(study, folder=folder, space=SearchSpace.from_json(study.space.to_json() | {"storage": url}))

    return new


def killed_to_its_end(study, drive, draw, kills_left):
    """Run the study until it has ended, each driver but the last killed; how many were. Nothing is lost or repeated."""
    space, url, kills = study.space.to_json(), study.space.storage, 0
    kept, settled = {}, set()
    while True:
        at = draw.randrange(1, STATEMENTS) if kills < kills_left else 0
        before = len(begun(study))
        ended = drive(space=space, at=at, after=draw.random() < 0.5)
        assert ended in (0, -signal.SIGKILL), f"a driver after {kills} kills ended with {ended}"
        now, names = rows(url), begun(study)[before:]
        assert not [name for name, written in kept.items() if now.get(name) != written], "lost or made again"
        assert not settled & set(names), "trained twice"
        written = len(trainings_in(now)) - len(trainings_in(kept))
        assert written <= len(names) <= written + 1, "a training that had ended was lost"
        settled |= set(names[:written])
        kept = now
        if ended == 0:
            return kills
        kills += 1


@pytest.mark.long
def test_thirty_killed_drivers_lose_no_trial_and_train_nothing_twice(new_study, caplog):
    draw, kills = random.Random(), 0
    seed = draw.randrange(10**6)
    print(f"seed {seed}")
    draw.seed(seed)
    while kills < KILLS:
        study = new_study()
        with drivers(study.folder) as drive:
            kills += killed_to_its_end(study, drive, draw, KILLS - kills)
        assert study.trained == TRIALS
        assert study.numbers_by_state().keys() <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert sorted(study.records()) == list(range(len(study.records())))
        with study.opened() as (_, ledger):
            assert ledger.claims() == {}
        verified = CliRunner().invoke(app, ["studies", "verify", study.space.storage])
        assert verified.exit_code == 0, verified.stdout
    print(Counter({"kills": kills}))
