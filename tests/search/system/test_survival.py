"""Kill anything, twenty times, in a real search: real Ray, real agent, real trainings, real onnxruntime.

Whatever dies, no finished stage may be lost or made again, no trial may stay open, and nothing may
be left running. The moments are random (seeded by the clock, printed on failure), the waits only
bounds against hanging.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.real_search import ENDLESS, OVERLAPPING, PATIENCE_S, RealSearch, write_images

KILLS = {"driver": 8, "worker": 4, "agent": 4, "child": 4}
TRIALS = 60

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]


def victim(search: RealSearch, kind: str, driver: subprocess.Popen[bytes]) -> int | None:
    if kind == "driver":
        return driver.pid
    marks = {
        "worker": "ray::_run_task_on",
        "agent": "vitsearch_agent serve",
        "child": "vitsearch_agent.measure.child.main",
    }
    pids = [pid for pid, command in search.processes().items() if marks[kind] in command and pid != driver.pid]
    return random.choice(pids) if pids else None


@pytest.fixture
def search(tmp_path: Path) -> Iterator[RealSearch]:
    write_images(tmp_path / "images", OVERLAPPING)
    # By default, an agent gives a job up during which it was killed three times.
    config = tmp_path / "survival.files" / "runs" / "survival" / "agent" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"limits": {"interruptions_max": 100}}')
    search = RealSearch.write(tmp_path, "survival", ENDLESS, TRIALS)
    yield search
    search.kill_all()


def await_victim(search: RealSearch, kind: str, driver: subprocess.Popen[bytes]) -> int | None:
    """A process of that kind, as soon as there is one after a random moment; None when the driver ended first."""
    time.sleep(random.uniform(0.0, 3.0))
    deadline = time.monotonic() + PATIENCE_S
    while driver.poll() is None:
        if pid := victim(search, kind, driver):
            time.sleep(random.uniform(0.0, 0.5))
            return pid
        assert time.monotonic() < deadline, f"no {kind} came up\n{search.log()}"
        time.sleep(0.01)
    return None


def kill_once(search: RealSearch, kind: str, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Kill one process of that kind; the driver that goes on, a new one when it was the driver itself."""
    while (pid := await_victim(search, kind, driver)) is None:
        assert driver.returncode == 0, search.log()
        search.trials += TRIALS
        driver = search.start()
    before = search.rows()
    with suppress(ProcessLookupError):  # it may have ended by itself in the last half second
        os.kill(pid, signal.SIGKILL)
    if kind == "driver":
        driver.wait()
        assert search.left_after_the_end() == {}, "processes outlived their driver"
        driver = search.start()
    after = search.rows()
    assert {key: after.get(key) for key in before} == before, "a finished stage was lost or made again"
    return driver


def test_twenty_kills_lose_nothing(search: RealSearch) -> None:
    random.seed(seed := time.time_ns())
    print(f"seed {seed}")  # shown when the test fails
    kinds = [kind for kind, count in KILLS.items() for _ in range(count)]
    random.shuffle(kinds)
    driver = search.start()
    for kind in kinds:
        driver = kill_once(search, kind, driver)

    await_victim(search, "worker", driver)  # it has opened the study, so what the killed one left open is its own
    driver.send_signal(signal.SIGINT)
    assert driver.wait(PATIENCE_S) in (0, 130), search.log()
    assert search.left_after_the_end() == {}
    assert "RUNNING" not in search.states(), search.log()

    search.trials = 2 + search.states().count("COMPLETE")
    search.least_gain = 0.1  # of a search that never converges
    assert search.start().wait(PATIENCE_S) == 0, search.log()
    assert set(search.states()) <= {"COMPLETE", "PRUNED", "WAITING"}, search.log()
    assert search.left_after_the_end() == {}

    rows = search.rows()
    assert search.start().wait(PATIENCE_S) == 0, search.log()
    assert search.rows() == rows, "a finished study made something new"
