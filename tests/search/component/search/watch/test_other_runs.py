"""Who joins a study while a run of it goes on, and whose run ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from support import PYTHON_PATH
from vitsearch.pipeline.progress import Silent
from vitsearch.search.watch import other_runs
from vitsearch.search.watch.other_runs import announce_other_runs
from vitsearch.storage.ledger import Ledger

RUN = """
import sys
from vitsearch.storage.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
ledger.costs.start_run("shared", 1)
print("begun", flush=True)
sys.stdin.readline()
ledger.costs.end_run()
ledger.close()
print("ended", flush=True)
"""


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    async def until(self, word):
        while not any(word in line for line in self.lines):
            await asyncio.sleep(0.01)


@pytest.fixture
def another(storage):
    """another() -> the process of a run that has begun; a line on its standard input ends it."""
    processes = []

    def start():
        command = [sys.executable, "-c", RUN, storage]
        env = {"PYTHONPATH": PYTHON_PATH}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        processes.append(process)
        assert process.stdout.readline() == "begun\n"
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.communicate("\n", timeout=60)


def test_a_run_that_joins_and_ends_is_said_once(storage, another, monkeypatch):
    monkeypatch.setattr(other_runs, "POLL_S", 0.05)
    ledger, notes = Ledger.open(storage), Notes()

    async def watch():
        async with announce_other_runs(ledger, "shared", notes):
            joined = another()
            await notes.until("joined the study")
            joined.communicate("\n", timeout=60)
            await notes.until("has ended")
            await asyncio.sleep(0.2)

    earlier = another()
    ledger.costs.start_run("shared", 1)
    asyncio.run(watch())
    ledger.costs.end_run()
    ledger.close()
    assert earlier.poll() is None
    assert len(notes.lines) == 2, "the run that began before was said at the start"
    assert notes.lines[0].startswith("another run joined the study: by ")
    assert notes.lines[1].startswith("the run by ")
