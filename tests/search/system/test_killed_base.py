"""The training of a base goes on where it was killed, in a real search: real Ray, real trainings."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.real_search import ENDLESS, OVERLAPPING, PATIENCE_S, RealSearch, write_images
from vitsearch.training.checkpoint import Checkpoint

EPOCHS = 40
SPACE = ENDLESS.replace("base: {{epochs: 1,", f"base: {{{{epochs: {EPOCHS},")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Callable[[str], RealSearch]]:
    write_images(tmp_path / "images", OVERLAPPING)
    started: list[RealSearch] = []

    def write(name: str) -> RealSearch:
        started.append(RealSearch.write(tmp_path, name, SPACE, 0))
        return started[-1]

    yield write
    for each in started:
        each.kill_all()


def checkpoints(search: RealSearch) -> list[Path]:
    """The trainings of bases that go on."""
    return [
        path for path in search.folder.glob(f"{search.study}.files/runs/{search.study}/scratch/??/*") if not path.suffix
    ]


def base(search: RealSearch) -> str:
    """The digest of the trained weights."""
    with closing(sqlite3.connect(search.folder / f"{search.study}.db", timeout=60)) as database:
        rows = database.execute("SELECT checkpoint_sha256 FROM vs_training WHERE divergence IS NULL").fetchall()
    ((sha256,),) = rows
    return str(sha256)


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_a_killed_base_is_trained_to_its_end_and_is_the_same(search, victim):
    random.seed(seed := time.time_ns())
    print(f"seed {seed}")  # shown when the test fails
    whole, killed = search("whole"), search("killed")
    whole.finish()
    driver = killed.start()
    deadline = time.monotonic() + PATIENCE_S
    while not checkpoints(killed):
        assert driver.poll() is None, killed.log()
        assert time.monotonic() < deadline, killed.log()
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 1.0))
    workers = [pid for pid, command in killed.processes().items() if "ray::_run_task_on" in command]
    for pid in [driver.pid] if victim == "driver" else workers:
        os.kill(pid, signal.SIGKILL)
    if victim == "driver":
        driver.wait()
        assert killed.left_after_the_end() == {}
        (path,) = checkpoints(killed)
        state = Checkpoint(path).load()
        assert state is not None
        assert len(state["losses"]) > 0
        driver = killed.start()
    assert driver.wait(PATIENCE_S) == 0, killed.log()
    assert base(killed) == base(whole)
    assert checkpoints(killed) == []
