"""optuna-dashboard on the database of a study."""

from __future__ import annotations

import sys

import optuna
import optuna_dashboard
import pytest

from vitsearch.errors import ResourceError, StudyError
from vitsearch.report.dashboard import dashboard
from vitsearch.report.serve import listener_on


def test_it_gets_the_study(finished, monkeypatch):
    served, said = [], []
    monkeypatch.setattr(
        optuna_dashboard, "run_server", lambda storage, host, port: served.append((storage, host, port))
    )
    file = finished.folder / "fake.db"
    dashboard(f"{file}", 8099, said.append)
    ((storage, *where),) = served
    assert where == ["127.0.0.1", 8099]
    assert said == ["http://127.0.0.1:8099/"]
    shown = optuna.load_study(study_name="fake", storage=storage)
    assert shown.metric_names == ["accuracy", "cpu_ms_p50"]
    with finished.opened() as (study, _):
        assert [trial.values for trial in shown.trials] == [trial.values for trial in study.as_optuna()]


def test_the_line_that_installs_it_is_named(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ResourceError) as error:
        dashboard(f"{finished.folder / 'fake.db'}", 8099, print)
    assert str(error.value) == "optuna-dashboard is not installed; install it with: pip install optuna-dashboard"


def test_a_study_that_does_not_exist_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(StudyError, match="no study 'nothing'"):
        dashboard(f"{tmp_path / 'nothing.db'}", 8099, print)


def test_a_port_that_is_taken_is_refused_before_an_address_is_shown(finished):
    said = []
    with listener_on(0) as taken, pytest.raises(ResourceError, match=r"port \d+ of 127.0.0.1 cannot be used"):
        dashboard(f"{finished.folder / 'fake.db'}", taken.getsockname()[1], said.append)
    assert said == []


def test_any_free_port_is_named(finished, monkeypatch):
    served, said = [], []
    monkeypatch.setattr(optuna_dashboard, "run_server", lambda storage, host, port: served.append(port))
    dashboard(f"{finished.folder / 'fake.db'}", 0, said.append)
    assert said == [f"http://127.0.0.1:{served[0]}/"]
    assert served[0] > 0
