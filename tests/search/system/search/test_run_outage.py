"""A real study whose board is cut off in the middle: real trainings, a real agent, a network that is cut."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from support.real_search import write_images
from vitsearch.devices import availability
from vitsearch.devices.agent_device import AgentDevice
from vitsearch.devices.connection import FOREVER_S
from vitsearch.devices.protocols import Protocols
from vitsearch.errors import DeviceLost
from vitsearch.pipeline.progress import Silent
from vitsearch.search.driver import SearchEnd
from vitsearch.search.run import Options, drive
from vitsearch.search.session import Session
from vitsearch.search.stage_config import data_spec
from vitsearch.search.study_folders import StudyFolders
from vitsearch.search.watch import outage
from vitsearch.space import SearchSpace
from vitsearch.stages import Job, R_co, TrainJob
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.storage.stores import store_of
from vitsearch.study.study import Study
from vitsearch.tasks import CLASSIFICATION
from vitsearch.workers.ray_runner import run_task
from vitsearch_agent.client.client import Backoff, DeviceClient
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.protocol import SCREEN

pytestmark = pytest.mark.long

QUICK = SCREEN._replace(id="quick", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.05)
TRIALS = 2
RUNGS = (0, 1, 2)
OF_A_PLAN = len(RUNGS) - 1
"""Trainings of each plan that is trained to the end."""


@dataclass
class OneThread:
    """One stage at a time, in a thread of this process: the event loop goes on as it does beside Ray."""

    before: Callable[[Job], None] = lambda job: None
    trained: int = 0
    thread: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    async def run(self, job: Job[R_co]) -> tuple[R_co, StageCost]:
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._run, job)

    def _run(self, job: Job[R_co]) -> tuple[R_co, StageCost]:
        self.before(job)
        answer = run_task(job)
        self.trained += isinstance(job, TrainJob)
        return answer

    def close(self) -> None:
        """For the next run."""


@dataclass
class Watched(Silent):
    on_waiting: Callable[[], None] = lambda: None
    waited_for: list[str] = field(default_factory=list)

    def waits(self, text):
        if text is not None:
            self.waited_for.append(text)
            self.on_waiting()


@dataclass
class RemoteStudy:
    """The study, its agent, and what lies between them."""

    space: SearchSpace
    agent: EmbeddedAgent
    proxy: object
    state: Path
    runner: OneThread = field(default_factory=OneThread)
    progress: Watched = field(default_factory=Watched)
    deadline_s: float = 900.0

    def run(self) -> SearchEnd:
        client = DeviceClient(self.proxy.url, self.agent.token, "away", 5.0, FOREVER_S, Backoff(0.05, 0.2))
        with (
            closing(AgentDevice("nano", client, deadline_s=self.deadline_s)) as device,
            closing(Ledger.open(self.space.storage)) as ledger,
            closing(Study.open(self.space)) as study,
        ):
            session = Session(self.space, study, ledger, self.runner, device, DriverId.current(), 1, self.progress)
            workspace = StudyFolders.of(self.space).workspace(self.space, data_spec(self.space), store_of(ledger))
            return asyncio.run(drive(session, workspace, Options()))

    def cut_when_training(self) -> None:
        """The board is gone while the first plan of the search is trained to its first rung."""

        def cut(job: Job) -> None:
            if isinstance(job, TrainJob):
                self.runner.before = lambda job: None
                self.proxy.cut()

        self.runner.before = cut

    def states(self) -> Counter[str]:
        return Counter(state for (state,) in self._rows(self._database, "SELECT state FROM vs_trial"))

    def measurements(self) -> list[tuple[str, ...]]:
        return self._rows(self._database, "SELECT graph_key, protocol, repeat FROM vs_measurement")

    def trainings(self) -> list[tuple[str, int]]:
        """Without the base, which is no plan's."""
        rows = "SELECT weights_key, rung FROM vs_training WHERE rung > 0"
        return [row for row in self._rows(self._database, rows) if row[0] in self._plans()]

    def jobs(self) -> list[tuple[str, int]]:
        """What the agent did: state and attempts of each job."""
        return self._rows(self.state / "jobs.sqlite", "SELECT state, attempts FROM jobs")

    @property
    def _database(self) -> Path:
        return StudyFolders.of(self.space).shared.parent / "away.db"

    def _plans(self) -> set[str]:
        with closing(Study.change_existing(self.space.storage, self.space.study)) as study:
            return {record.keys.weights_key for record in study.records().values() if record.keys}

    @staticmethod
    def _rows(path: Path, query: str) -> list[tuple]:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            return database.execute(query).fetchall()


@pytest.fixture
def board(tmp_path, make_proxy, monkeypatch):
    monkeypatch.setattr(
        "vitsearch.pipeline.fleet_measure.Protocols.of",
        lambda phases, info: Protocols(QUICK, QUICK._replace(id="full")),
    )
    trains_all = replace(CLASSIFICATION.divergence, small=0.0)  # 20 images train a model that hardly moves
    monkeypatch.setattr(type(CLASSIFICATION), "divergence", trains_all)
    monkeypatch.setattr(availability, "OUTAGE_AFTER_S", 0.3)
    monkeypatch.setattr(availability, "POLL_S", 0.2)
    monkeypatch.setattr(outage, "LOOK_EVERY_S", 0.05)
    # So different that the base learns them: plans are predicted to gain from an accuracy above chance.
    write_images(tmp_path / "images", {"dark": (0, 90), "light": (160, 250)})
    with EmbeddedAgent(str(tmp_path / "agent")) as agent:
        proxy = make_proxy(int(agent.url.rpartition(":")[2]))
        board = RemoteStudy(SearchSpace.from_json(space_json(tmp_path)), agent, proxy, tmp_path / "agent")
        yield board
        board.runner.thread.shutdown()


def space_json(folder: Path) -> dict[str, object]:
    return {
        "study": "away",
        "task": {
            "data": {"source": "folder", "root": str(folder / "images")},
            "base": {"epochs": 20, "batch_size": 16},
            "fine_tune": {"rungs": list(RUNGS), "images_per_epoch": 32, "batch_size": 16},
            "proxy": {"calibration_images": 16},
        },
        # The size has no noise, so the first plan that is cut gains on any machine.
        "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize", "size_mb": "minimize"},
        "limits": {"accuracy": {"max_drop": 1.0}},
        "space": {
            "backbone": [{"name": "test_vit", "weights": "none"}],
            "resolution": [32, 48],
            "head_pruning_ratio": [0.0, 0.5],
            "ffn_pruning_ratio": {"low": 0.0, "high": 0.9, "step": 0.02},
            "width_multiple": 2,
            "quantization": ["fp32"],
            "batch": "1",
        },
        "devices": {"nano": {"url": "http://127.0.0.1:1", "accuracy_images": 0}},
        "search": {"trials": TRIALS, "candidates": 1, "margin": 1.0},
        "storage": f"sqlite:///{folder / 'away.db'}",
    }


def test_training_goes_on_without_the_board_and_all_is_told_once_when_it_is_back(board):
    def mend_when_all_is_done_without_it() -> None:
        if board.runner.trained >= OF_A_PLAN:
            board.proxy.restore()

    board.cut_when_training()
    board.progress.on_waiting = mend_when_all_is_done_without_it
    assert board.run().complete
    waited_for_the_board = [text for text in board.progress.waited_for if "device nano" in text]
    assert re.match(r"waits for device nano, no answer for \d+ s: http://127", waited_for_the_board[-1])
    assert set(board.states()) <= {"COMPLETE", "PRUNED", "WAITING"}
    assert len(set(board.measurements())) == len(board.measurements())
    assert set(board.jobs()) == {("done", 1)}
    assert len(board.jobs()) == len(board.measurements())
    assert len(board.trainings()) == board.runner.trained


def test_a_board_that_stays_away_ends_the_run_when_all_else_is_done_and_a_second_run_finishes(board):
    board.deadline_s = 0.5
    board.cut_when_training()
    with pytest.raises(DeviceLost, match=r"device nano: http.* \(gave up after .* without a useful answer\)"):
        board.run()
    assert board.runner.trained >= OF_A_PLAN
    assert set(board.states()) <= {"COMPLETE", "PRUNED", "WAITING"}
    board.proxy.restore()
    assert board.run().complete
    assert set(board.states()) <= {"COMPLETE", "PRUNED", "WAITING"}
    assert len(set(board.measurements())) == len(board.measurements())
    assert len(board.trainings()) == board.runner.trained
