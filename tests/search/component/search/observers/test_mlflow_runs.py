"""A study in a real MLflow store, and what happens while the server does not answer."""

from __future__ import annotations

import csv
import importlib
import json
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from support.marks import long
from vitsearch.core.figures import Metrics
from vitsearch.core.json_value import json_of
from vitsearch.core.record import Record
from vitsearch.search.observers import FinalFront, ShippedModel
from vitsearch.search.observers.mlflow_runs import FinishedTrial, Mlflow, MlflowRuns
from vitsearch.storage.ledger import Ledger
from vitsearch.study.printed.models import PrintedFront
from vitsearch.study.study import Study
from vitsearch.testing.observers import ObserverTests

LENIENT = pytest.mark.filterwarnings("ignore")
"""MLflow uses what SQLAlchemy, Starlette and others have announced to remove, each with a warning of its own."""


@dataclass
class FailingRuns:
    """A server that does not answer `failures` times."""

    failures: int
    logged: list[int] = field(default_factory=list)
    address: str = "https://ana:hunter2@mlflow.local"
    has_ended: bool = False

    def log(self, trial: FinishedTrial) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError(f"no answer of {self.address}/api")
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
    assert heard == [
        "MLflow did not take a trial; it is sent again with the next one: no answer of https://ana:***@mlflow.local/api"
    ]


def test_mlflow_that_is_not_installed_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "pip install 'vitsearch[mlflow]'" in Mlflow().missing()


def observed(store, space):
    plugin = Mlflow()
    assert plugin.missing() is None
    return plugin.observe(store, space, pytest.fail)


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
        (experiment,) = [candidate for candidate in client.search_experiments() if candidate.name == "vitsearch"]
        runs = client.search_runs([experiment.experiment_id])
        (parent,) = [run for run in runs if run.data.tags["vitsearch.kind"] == "study"]
        trials = [run for run in runs if run.data.tags["vitsearch.kind"] == "trial"]
        assert len({run.data.tags["vitsearch.trial"] for run in trials}) == len(trials)
        return parent, {int(run.data.tags["vitsearch.trial"]): run for run in trials}

    return read


@pytest.fixture
def sent(store, run_with, make_study):
    with observed(store, make_study(trials=1).space) as sender:
        return run_with(sender)


@pytest.mark.long
@LENIENT
def test_each_trial_is_a_run_below_that_of_the_study(sent, runs, capsys):
    assert capsys.readouterr().out == "", "two lines for each trial, where MLflow has its way"
    parent, trials = runs()
    records = sent.records()
    assert (parent.info.run_name, parent.info.status) == ("fake", "FINISHED")
    assert trials.keys() == records.keys()
    for number, record in records.items():
        run = trials[number]
        assert run.info.run_name == f"trial {number}"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["vitsearch.outcome"] in (record.outcome, "duplicate")
        assert run.data.tags.get("vitsearch.artifact_key") == record.keys.artifact_key
        assert run.data.params["head_pruning_ratio"] == str(record.plan.compression.head_pruning_ratio)
        measured = {name: value for name, value in record.metrics.values.items() if value is not None}
        assert run.data.metrics == measured


@LENIENT
@pytest.mark.long
def test_a_resumed_study_adds_to_its_run(sent, store, runs):
    before = runs()[1].keys()
    more = sent.with_space(search__trials=3)
    with observed(store, more.space) as sender:
        more.progress = sender
        sender.earlier_trials(more.records())  # as a run does when it begins
        more.run()
    parent, trials = runs()
    assert trials.keys() == more.records().keys() > before
    assert parent.info.status == "FINISHED"


@pytest.fixture
def final(sent):
    """The front of the study that was sent."""
    ledger, study = Ledger.open(sent.space.storage), Study.open(sent.space)
    final = FinalFront.read(study, ledger)
    study.close()
    ledger.close()
    return final


@pytest.fixture
def artifact(mlflow, store, runs):
    """artifact(path): the text of an artifact of the run of the study."""

    def read(path):
        client = mlflow.MlflowClient(store)
        return Path(client.download_artifacts(runs()[0].info.run_id, path)).read_text()

    return read


@pytest.mark.long
@LENIENT
def test_what_is_measured_again_at_the_end_reaches_its_trial(sent, final, store, runs):
    """A re-measurement of the front changes no record: .0735 in the front, .0821 in MLflow."""
    front = final.front
    name = front.objectives[1]
    again = Metrics.of({name: 0.9 * front.points[0].metrics.values[name]})
    first = replace(front.points[0], metrics=front.points[0].metrics | again)
    before = runs()[1]
    with observed(store, sent.space) as sender:
        sender.finished(lambda: replace(final, front=replace(front, points=(first, *front.points[1:]))))
    parent, trials = runs()
    assert trials[first.trial].data.metrics[name] == again.values[name] < before[first.trial].data.metrics[name]
    shown = {number for number, run in trials.items() if run.data.tags.get("vitsearch.on_front") == "true"}
    assert shown == {point.trial for point in front.points}
    assert parent.info.status == "FINISHED"


@LENIENT
def test_the_run_of_the_study_has_the_front_and_its_hypervolume(sent, final, store, runs, artifact):
    with observed(store, sent.space) as sender:
        sender.finished(lambda: final)
    metrics, front = runs()[0].data.metrics, final.front
    assert metrics["front_models"] == len(front.points)
    assert metrics["hypervolume"] == pytest.approx(final.hypervolume)
    assert final.hypervolume > 0
    assert json.loads(artifact("front.json")) == json_of(PrintedFront.of(front, front.points))
    table = list(csv.DictReader(artifact("front.csv").splitlines()))
    assert [row["trial"] for row in table] == ["", *(str(point.trial) for point in front.points)]


@pytest.mark.long
@LENIENT
@pytest.mark.parametrize("is_known", [True, *long(False)])
def test_a_bundle_is_added_to_the_run_of_its_study(is_known, sent, final, store, runs, artifact, tmp_path):
    space = sent.space if is_known else sent.with_space(study="other").space
    (card := tmp_path / "README.md").write_text("# fake-trial-0\n")
    (archive := tmp_path / "fake-trial-0.zip").write_bytes(b"zip")
    shipped = ShippedModel("fake-trial-0", 0, "ab" * 32, card, archive, {"accuracy_test": 0.9})
    Mlflow().send_bundle(store, space, final, shipped)
    if not is_known:
        return  # a study that no run has sent gets its run then
    parent, _ = runs()
    assert (parent.data.tags["vitsearch.shipped"], parent.data.tags["vitsearch.shipped_trial"]) == ("fake-trial-0", "0")
    assert parent.data.metrics["shipped/accuracy_test"] == 0.9
    assert artifact("shipped/fake-trial-0/README.md") == "# fake-trial-0\n"
    assert artifact("shipped/fake-trial-0/fake-trial-0.zip") == "zip"
    assert parent.info.status == "FINISHED"


@pytest.mark.long
@LENIENT
class TestMlflow(ObserverTests):
    name = "mlflow"

    @pytest.fixture
    def setting(self, mlflow, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # where it makes folders
        return f"sqlite:///{tmp_path / 'mlflow.db'}"
