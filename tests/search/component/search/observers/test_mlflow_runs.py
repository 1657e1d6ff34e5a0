"""A study in a real MLflow store, and what happens while the server does not answer."""

from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import dataclass, field

import pytest
from werkzeug.serving import make_server

from support.marks import long
from vitsearch.core.record import Record
from vitsearch.errors import ResourceError
from vitsearch.search.observers.mlflow_runs import FinishedTrial, MlflowRuns, mlflow_runs

LENIENT = pytest.mark.filterwarnings("ignore")
"""MLflow uses what SQLAlchemy, Starlette and others have announced to remove, each with a warning of its own."""


@dataclass
class FailingRuns:
    """A server that does not answer ``failures`` times."""

    failures: int
    logged: list[int] = field(default_factory=list)
    has_ended: bool = False

    def log(self, trial: FinishedTrial) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no answer")
        self.logged.append(trial.number)

    def end(self) -> None:
        self.has_ended = True


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_what_the_server_did_not_take_is_sent_again_with_one_warning(failures, plan, warnings_of):
    heard = warnings_of("vitsearch.search.observers.mlflow_runs")
    runs = FailingRuns(failures)
    sender = MlflowRuns(runs)
    for number in range(3):
        sender.ended(number, Record("dominated", plan))
    sender.close()
    assert (runs.logged, runs.has_ended) == ([0, 1, 2], True)
    assert len(heard) == min(failures, 1)


def test_a_server_that_never_answers_does_not_end_the_study(run_with, warnings_of):
    heard = warnings_of("vitsearch.search.observers.mlflow_runs")
    sender = MlflowRuns(FailingRuns(sys.maxsize))
    assert run_with(sender).trained == 1
    sender.close()
    assert heard == ["MLflow did not take a trial; it is sent again with the next one: no answer"]


def test_mlflow_that_is_not_installed_is_named_with_its_command(space, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ResourceError, match=r"pip install 'vitsearch\[mlflow\]'"), mlflow_runs("x", space):
        pass


@pytest.fixture(scope="module")
def mlflow():
    return pytest.importorskip("mlflow", reason="pip install 'vitsearch[mlflow]'")


@pytest.fixture(params=["database", *long("server")])
def store(request, mlflow, tmp_path, monkeypatch):
    """The URI of an empty SQLite store, or of a server that has one."""
    monkeypatch.chdir(tmp_path)  # where it makes folders
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if request.param == "database":
        yield uri
        return
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", uri)
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(tmp_path))
    monkeypatch.setattr("mlflow.server.handlers._tracking_store", None)  # that of the test before
    app = importlib.import_module("mlflow.server").app
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def runs(mlflow, store):
    """All runs of the store: that of the study, and those of trials by their numbers."""

    def read():
        client = mlflow.MlflowClient(store)
        (experiment,) = [one for one in client.search_experiments() if one.name == "vitsearch"]
        found = client.search_runs([experiment.experiment_id])
        (parent,) = [run for run in found if run.data.tags["vitsearch.kind"] == "study"]
        trials = [run for run in found if run.data.tags["vitsearch.kind"] == "trial"]
        assert len({run.data.tags["vitsearch.trial"] for run in trials}) == len(trials)
        return parent, {int(run.data.tags["vitsearch.trial"]): run for run in trials}

    return read


@pytest.fixture
def sent(store, run_with, make_study):
    with mlflow_runs(store, make_study(trials=1).space) as sender:
        return run_with(sender)


@LENIENT
def test_each_trial_is_a_run_below_that_of_the_study(sent, runs, capsys):
    assert capsys.readouterr().out == "", "two lines for each trial, where MLflow has its way"
    parent, trials = runs()
    records = sent.records()
    assert (parent.info.run_name, parent.info.status) == ("fake", "FINISHED")
    assert trials.keys() == records.keys()
    for number, record in records.items():
        found = trials[number]
        assert found.info.run_name == f"trial {number}"
        assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert found.data.tags["vitsearch.outcome"] in (record.outcome, "duplicate")
        assert found.data.tags.get("vitsearch.artifact_key") == record.keys.artifact_key
        assert found.data.params["head_pruning_ratio"] == str(record.plan.compression.head_pruning_ratio)
        measured = {name: value for name, value in record.metrics.values.items() if value is not None}
        assert found.data.metrics == measured


@LENIENT
@pytest.mark.long
def test_a_resumed_study_adds_to_its_run(sent, store, runs):
    before = runs()[1].keys()
    more = sent.with_space(search__trials=3)
    with mlflow_runs(store, more.space) as sender:
        more.progress = sender
        sender.known(more.records())  # as a run does when it begins
        more.run()
    parent, trials = runs()
    assert trials.keys() == more.records().keys() > before
    assert parent.info.status == "FINISHED"
