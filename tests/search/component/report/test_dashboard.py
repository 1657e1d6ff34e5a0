"""optuna-dashboard on the database of a study."""

from __future__ import annotations

import sys

import optuna_dashboard
import pytest

from vitsearch.errors import ResourceError, StudyError
from vitsearch.report.dashboard import dashboard


def test_it_gets_the_database_of_the_study(finished, monkeypatch):
    served, said = [], []
    monkeypatch.setattr(
        optuna_dashboard, "run_server", lambda storage, host, port: served.append((storage, host, port))
    )
    file = finished.folder / "fake.db"
    dashboard(f"{file}", 8099, said.append)
    assert served == [(f"sqlite:///{file}", "127.0.0.1", 8099)]
    assert said == ["http://127.0.0.1:8099/"]


def test_the_line_that_installs_it_is_named(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ResourceError) as error:
        dashboard(f"{finished.folder / 'fake.db'}", 8099, print)
    assert str(error.value) == "optuna-dashboard is not installed; install it with: pip install optuna-dashboard"


def test_a_study_that_does_not_exist_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(StudyError, match="no study 'nothing'"):
        dashboard(f"{tmp_path / 'nothing.db'}", 8099, print)
