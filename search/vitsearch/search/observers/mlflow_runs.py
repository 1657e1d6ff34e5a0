"""A study as MLflow runs: one for the study, and one below it for each finished trial.

A thread of its own talks to the server, so the search never waits for it. What the server does not take is kept, with
one warning, and sent again with the next trial and at the end of the run. A trial is looked up before it is sent:
each is there once, also after a resumed run, and when several runs of the study send. At the end the figures of all
trials become those that the front shows, which were measured again since, and the run of the study gets that front.
What is shipped is added to it later.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsearch.core.figures import Metrics
from vitsearch.core.json_value import json_text
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.search.observers.base import FinalFront, RunObserver, ShippedModel, SilentRun
from vitsearch.space import SearchSpace
from vitsearch.storage.addresses import masked, without_password
from vitsearch.storage.ledger import sqlite_file
from vitsearch.study.knob_values import knob_values
from vitsearch.study.printed.models import PrintedFront
from vitsearch.study.results.exports import rows, to_csv

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EXPERIMENT = "vitsearch"
"""Where MLflow's own variable MLFLOW_EXPERIMENT_NAME names no other."""
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's variables, where the user has not set them. A trial that failed is sent again anyway, and MLflow's own 7
tries may take minutes; two lines for each trial would spoil the view, and what `--json` prints."""
ON_FRONT = "vitsearch.on_front"
PAGE = 1000
CLOSE_S = 30.0
"""The end of a run waits this long for what is not sent yet."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedTrial:
    """`started_ms` is None where another run has started it. Milliseconds since 1970, as MLflow counts them."""

    number: int
    record: Record
    started_ms: int | None
    ended_ms: int


class Mlflow:
    """The setting is the URI of a tracking server or store."""

    def missing(self) -> str | None:
        """Sets MLflow's variables first: it is imported here."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow  # noqa: F401 - optional
        except ImportError:
            return "--mlflow needs MLflow; run: pip install 'vitsearch[mlflow]'"
        return None

    @contextmanager
    def observe(self, setting: str, space: SearchSpace, note: Callable[[str], None]) -> Iterator[RunObserver]:
        """Sends trials and front; after the block waits for what is not sent yet."""
        sender = MlflowRuns(StudyRuns(setting, space))
        try:
            yield sender
        finally:
            sender.close()

    def send_bundle(self, setting: str, space: SearchSpace, front: FinalFront, shipped: ShippedModel) -> None:
        """Add a bundle to the run of its study. Raises what MLflow's client raises."""
        runs = StudyRuns(setting, space)
        runs.log_front(front)
        runs.log_bundle(shipped)
        runs.end()


class MlflowRuns(SilentRun):
    """Hands trials that have ended, and the front of the end, to the thread that sends them."""

    def __init__(self, runs: StudyRuns) -> None:
        self._runs = runs
        self._started_ms: dict[int, int] = {}
        self._ended: queue.SimpleQueue[FinishedTrial | FinalFront | None] = queue.SimpleQueue()
        self._has_warned = False
        self._thread = threading.Thread(target=self._send_all, name="mlflow", daemon=True)
        self._thread.start()

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        for number, record in records.items():
            self.ended(number, record)

    def started(self, number: int, plan: Plan) -> None:
        self._started_ms[number] = _now_ms()

    def ended(self, number: int, record: Record) -> None:
        self._ended.put(FinishedTrial(number, record, self._started_ms.pop(number, None), _now_ms()))

    def finished(self, read_front: Callable[[], FinalFront]) -> None:
        """The search is over. A run of the study that was killed did not end its run there."""
        self._ended.put(read_front())

    def close(self) -> None:
        """Send what is left, and end the run of the study; gives up after `CLOSE_S`."""
        self._ended.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            logger.warning("MLflow: not everything was sent; the same command sends what is missing")

    def _send_all(self) -> None:
        waiting: list[FinishedTrial | FinalFront] = []
        while (item := self._ended.get()) is not None:
            waiting.append(item)
            self._send(waiting)
        if self._send(waiting):
            self._end()

    def _send(self, waiting: list[FinishedTrial | FinalFront]) -> bool:
        """Send until nothing waits, or the server fails."""
        try:
            while waiting:
                item = waiting[0]
                if isinstance(item, FinalFront):
                    self._runs.resume()
                    self._runs.log_front(item)
                else:
                    self._runs.log(item)
                del waiting[0]
        except Exception as error:  # noqa: BLE001 - whatever the server or its client raised, the search goes on
            self._warn(error)
            return False
        return True

    def _end(self) -> None:
        try:
            self._runs.end()
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            why = without_password(str(error), self._runs.address)
            logger.warning("MLflow did not take a trial; it is sent again with the next one: %s", why)


class StudyRuns:
    """The runs of one study on a server. Connects with the first trial."""

    def __init__(self, uri: str, space: SearchSpace) -> None:
        self.address = uri
        self._space = space
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._parent = ""
        self._is_running = False

    def log(self, trial: FinishedTrial) -> None:
        """Add a trial, unless it is there. Raises what the client raises; a part that is there is completed later."""
        from mlflow.entities import Param

        client = self._connected()
        self.resume()
        sent = self._find(client, {"mlflow.parentRunId": self._parent, "vitsearch.trial": str(trial.number)})
        if sent is not None and sent.info.status != "RUNNING":
            return
        tags = self._tags(trial) | {"mlflow.parentRunId": self._parent}
        run = sent or client.create_run(self._experiment, trial.started_ms, tags, f"trial {trial.number}")
        record = trial.record
        knobs = {name: str(value) for name, value in knob_values(record.plan).items() if value not in (None, "")}
        figures = _metrics(_measured(record.metrics), trial.ended_ms)
        client.log_batch(run.info.run_id, figures, [Param(name, value) for name, value in knobs.items()])
        status = "FAILED" if record.outcome == "failed" else "FINISHED"
        client.set_terminated(run.info.run_id, status, trial.ended_ms)

    def resume(self) -> None:
        """The run of the study goes on; `end` ends it."""
        client = self._connected()
        if not self._is_running:
            client.update_run(self._parent, "RUNNING")
            self._is_running = True

    def log_front(self, final: FinalFront) -> None:
        """Give the trials that are there the figures of the front, and the run of the study the front itself."""
        client, now, front = self._connected(), _now_ms(), final.front
        points = {str(point.trial): point for point in (*front.points, *front.others)}
        on_front = {str(point.trial) for point in front.points}
        for run in self._trials(client):
            number = run.data.tags.get("vitsearch.trial", "")
            if number not in points:
                continue
            figures = _measured(points[number].metrics)
            new = {name: value for name, value in figures.items() if run.data.metrics.get(_allowed(name)) != value}
            if new:
                client.log_batch(run.info.run_id, _metrics(new, now))
            tag = str(number in on_front).lower()
            if run.data.tags.get(ON_FRONT) != tag:
                client.set_tag(run.info.run_id, ON_FRONT, tag)
        summary = {"front_models": float(len(front.points))}
        summary |= {} if final.hypervolume is None else {"hypervolume": final.hypervolume}
        client.log_batch(self._parent, _metrics(summary, now))
        client.log_text(self._parent, json_text(PrintedFront.of(front, front.points)) + "\n", "front.json")
        client.log_text(self._parent, to_csv(front, rows(front, front.shown(), {})), "front.csv")

    def log_bundle(self, shipped: ShippedModel) -> None:
        """Add a bundle to the run of the study: its card and archive, and what it promises as `shipped/...`."""
        client, now = self._connected(), _now_ms()
        for file in (shipped.card, shipped.archive):
            client.log_artifact(self._parent, str(file), f"shipped/{shipped.name}")
        figures = {f"shipped/{name}": value for name, value in shipped.figures.items()}
        client.log_batch(self._parent, _metrics(figures, now))
        trial = "baseline" if shipped.trial is None else str(shipped.trial)
        tags = {"shipped": shipped.name, "shipped_trial": trial, "shipped_artifact_key": shipped.artifact_key}
        for name, value in tags.items():
            client.set_tag(self._parent, f"vitsearch.{name}", value)

    def _trials(self, client: MlflowClient) -> Iterator[Run]:
        """The runs below that of the study."""
        condition, token = f"tags.`mlflow.parentRunId` = '{self._parent}'", None
        while True:
            page = client.search_runs([self._experiment], condition, max_results=PAGE, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def end(self) -> None:
        """The run of the study is over, until the study is resumed."""
        if self._client is not None and self._is_running:
            self._client.set_terminated(self._parent)
            self._is_running = False

    def _connected(self) -> MlflowClient:
        """The client, after the run of the study was found or made. A failure leaves nothing: all of it again."""
        from mlflow import MlflowClient

        if self._client is None:
            client = MlflowClient(self.address)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            experiment = client.get_experiment_by_name(name)
            self._experiment = client.create_experiment(name) if experiment is None else experiment.experiment_id
            self._parent = self._study_run(client)
            self._client = client
        return self._client

    def _study_run(self, client: MlflowClient) -> str:
        """The run of the study: that of an earlier run, or a new one."""
        tags = {"vitsearch.study": self._space.study, "vitsearch.storage": _storage(self._space.storage)}
        tags |= {"vitsearch.kind": "study"}
        if (earlier := self._find(client, tags)) is not None:
            return str(earlier.info.run_id)
        self._is_running = True
        run = client.create_run(self._experiment, tags=tags, run_name=self._space.study)
        for name, direction in self._space.objectives.items():
            client.log_param(run.info.run_id, f"objectives.{_allowed(name)}", direction)
        return str(run.info.run_id)

    def _find(self, client: MlflowClient, tags: Mapping[str, str]) -> Run | None:
        quoted = {name: value.replace("'", "''") for name, value in tags.items()}
        condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in quoted.items())
        runs = client.search_runs([self._experiment], condition, max_results=1)
        return runs[0] if runs else None

    def _tags(self, trial: FinishedTrial) -> dict[str, str]:
        record = trial.record
        tags = {
            "vitsearch.study": self._space.study,
            "vitsearch.kind": "trial",
            "vitsearch.trial": str(trial.number),
            "vitsearch.outcome": record.shown_outcome,
            "vitsearch.plan": plan_text(record.plan),
            "vitsearch.reason": record.reason,
            "vitsearch.artifact_key": (record.keys.artifact_key if record.keys else None) or "",
        }
        return {name: value for name, value in tags.items() if value}


def _storage(url: str) -> str:
    """What tells apart two studies of one name: the database. A SQLite file belongs to a machine."""
    file = sqlite_file(url)
    return masked(url) if file is None else f"{socket.gethostname()}:{file.resolve()}"


def _measured(metrics: Metrics) -> dict[str, float]:
    return {name: value for name, value in metrics.values.items() if value is not None}


def _metrics(values: Mapping[str, float], at_ms: int) -> list[Metric]:
    from mlflow.entities import Metric

    return [Metric(_allowed(name), value, at_ms, 0) for name, value in values.items()]


def _allowed(name: str) -> str:
    """MLflow's names have no `@`: `latency_ms_p50@nano` is `latency_ms_p50/nano`."""
    return name.replace("@", "/")


def _now_ms() -> int:
    return int(time.time() * 1000)
