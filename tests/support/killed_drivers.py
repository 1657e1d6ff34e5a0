"""Drivers of a fake study that end by SIGKILL: `python -m support.killed_drivers FOLDER` forks one for each line read.

A line is JSON: the `space` of the study, and where the driver kills itself: `at` a statement of the database, counted
from the start, just before it or (`after`) when it was executed. What is imported once serves them all. The answer is a
line for each: how the driver ended, as `os.waitstatus_to_exitcode` says it. Each training that a driver begins, that
of the base too, is a line in FOLDER/begun.
"""

import importlib.util
import itertools
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from support import TESTS
from vitsearch.stages import BaseJob, TrainJob
from vitsearch_agent.base.canonical_json import digest


def kill_at(statement: int, after: bool) -> None:
    numbers = itertools.count(1)
    moment = "after_cursor_execute" if after else "before_cursor_execute"

    @event.listens_for(Engine, moment)
    def _count(*_: object) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)


def run(conftest: Any, folder: Path, asked: dict[str, Any]) -> None:
    def note(job: Any) -> None:
        if isinstance(job, BaseJob):
            name = "base"
        elif isinstance(job, TrainJob):
            name = digest([job.spec.resolved.to_json(), job.start, job.end])
        else:
            return
        with (folder / "begun").open("a") as stream:
            stream.write(name + "\n")

    if asked["at"]:
        kill_at(asked["at"], asked["after"])
    study = conftest.FakeStudy(folder, conftest.SearchSpace.from_json(asked["space"]))
    study.runner.before = note
    assert study.run().complete


def serve(folder: Path) -> Iterator[int]:
    spec = importlib.util.spec_from_file_location("conftest", Path(TESTS, "search", "conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    conftest = sys.modules["conftest"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(conftest, folder, json.loads(line))
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        yield os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for ended in serve(Path(sys.argv[1])):
        print(ended, flush=True)
