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

from support.real_search import OVERLAPPING, PATIENCE_S, RealSearch, write_images

KILLS = {"driver": 8, "worker": 4, "agent": 4, "child": 4}
TRIALS = 60

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]

SPACE = """
study: survival
task:
  data: {{source: folder, root: "{folder}/images"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
# Many objectives, and two without noise: there is always a plan with a predicted gain.
objectives: {{accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize, macs_m: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: [32, 48, 64]
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: {{low: 0.0, high: 0.9, step: 0.02}}
  width_multiple: 2
  pruning_scope: [uniform, global]
  quantization: [fp32, int8_dynamic]
  batch: 1
search: {{trials: 0, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/survival.db"
"""


def victim(search: RealSearch, kind: str, driver: subprocess.Popen[bytes]) -> int | None:
    if kind == "driver":
        return driver.pid
    marks = {
        "worker": "ray::_run_task_on",
        "agent": "vitsearch_evaluators serve",
        "child": "vitsearch_evaluators.measure.child.main",
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
    search = RealSearch.write(tmp_path, "survival", SPACE, TRIALS)
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
    assert search.start().wait(PATIENCE_S) == 0, search.log()
    assert set(search.states()) <= {"COMPLETE", "PRUNED", "WAITING"}, search.log()
    assert search.left_after_the_end() == {}

    rows = search.rows()
    assert search.start().wait(PATIENCE_S) == 0, search.log()
    assert search.rows() == rows, "a finished study made something new"


def test_a_second_run_joins_the_first_and_goes_on_when_that_is_killed(search: RealSearch) -> None:
    search.trials = 4
    first = search.start()
    assert await_victim(search, "agent", first), search.log()
    second = search.start()
    deadline = time.monotonic() + PATIENCE_S
    while "this run joins it" not in search.log() or not any(row.startswith("vs_training") for row in search.rows()):
        assert second.poll() is None, search.log()
        assert time.monotonic() < deadline, search.log()
        time.sleep(0.2)
    before = search.rows()
    first.kill()
    first.wait()
    assert second.wait(PATIENCE_S) == 0, search.log()
    after = search.rows()
    assert {key: after.get(key) for key in before} == before, "a finished stage was lost or made again"
    assert set(search.states()) <= {"COMPLETE", "PRUNED"}, search.log()
    assert 1 <= len(search.chosen("COMPLETE")) <= search.trials, "it may end as converged"
    # A training that was cut short by the kill may add nothing to what is known when it is done.
    trained = {row.split()[1].split(":")[0] for row in after if row.startswith("vs_training") and row[-2:] != ":0"}
    assert len(trained - search.chosen("COMPLETE", "PRUNED")) == 1, "only the base is trained without being chosen"
    assert search.left_after_the_end() == {}
