"""SIGSTOP of a worker, the agent and the guard in a real search: it says what it waits for, and goes on or ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.real_search import ENDLESS, OVERLAPPING, PATIENCE_S, RealSearch, write_images

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]

WORKER, AGENT, GUARD = "ray::_run_task_on", "vitsearch_agent serve", "vitsearch.workers.process_guard"

ONE_TRAINER = ENDLESS + "resources: {{trainers: 1}}\n"
"""Another one would go on."""


@pytest.fixture
def search(tmp_path: Path) -> Iterator[RealSearch]:
    write_images(tmp_path / "images", OVERLAPPING)
    search = RealSearch.write(tmp_path, "stopped", ONE_TRAINER, trials=60)
    search.program = "support.hasty_search"
    yield search
    search.kill_all()


def until(search: RealSearch, driver: subprocess.Popen[bytes], condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert driver.poll() is None, search.log()
        assert time.monotonic() < deadline, search.log()
        time.sleep(0.05)


def stop(search: RealSearch, driver: subprocess.Popen[bytes], title: str, says: str) -> int:
    """Stop a process whose command line has `title`, until the run says so; its pid."""
    pids: list[int] = []

    def is_stopped() -> bool:
        pids[:] = [pid for pid, command in search.processes().items() if title in command]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return bool(pids)

    until(search, driver, is_stopped)
    said = search.log().count(says)
    until(search, driver, lambda: search.log().count(says) > said)
    return pids[0]


def test_whatever_is_stopped_the_run_says_so_and_loses_nothing(search: RealSearch) -> None:
    driver = search.start()
    until(search, driver, lambda: any(row.startswith("vs_measurement") for row in search.rows()))

    for title, says in ((WORKER, "is stopped: a signal has stopped its process"), (AGENT, "waits for device local")):
        before = search.rows()
        pid = stop(search, driver, title, says)
        os.kill(pid, signal.SIGCONT)
        until(search, driver, lambda: len(search.rows()) > len(before))  # noqa: B023 - called at once
        assert {key: search.rows().get(key) for key in before} == before

    before = search.rows()
    stop(search, driver, GUARD, "does not answer: starting another one")
    until(search, driver, lambda: len(search.rows()) > len(before))

    stop(search, driver, WORKER, "is stopped: a signal has stopped its process")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(PATIENCE_S) == 130, search.log()
    assert search.left_after_the_end() == {}
    assert "RUNNING" not in search.states()

    rows = search.rows()
    search.trials = 1 + search.states().count("COMPLETE")
    search.finish()
    assert {key: search.rows().get(key) for key in rows} == rows, "a finished stage was lost or made again"
    assert set(search.states()) <= {"COMPLETE", "PRUNED", "WAITING"}
