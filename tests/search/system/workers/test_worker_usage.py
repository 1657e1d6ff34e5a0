"""Real processes that carry the title of a Ray worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from vitsearch.workers.worker_usage import stopped, why_slow, worker_usage

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not count waiting")

COMPUTE = "print(flush=True)\nwhile True: pass"
SLEEP = "import time; print(flush=True); time.sleep(600)"
LOOKS = 600


@contextmanager
def process(code: str, title: str = "ray::_run_task_on", core: int | None = None) -> Iterator[int]:
    """A child that runs `code` on one core; its pid."""
    child = subprocess.Popen([title, "-c", code], executable=sys.executable, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        if core is not None:
            os.sched_setaffinity(child.pid, {core})
        yield child.pid
    finally:
        child.kill()
        child.communicate()


def test_only_workers_that_run_a_stage_are_looked_at():
    with process(SLEEP) as busy, process(SLEEP, "ray::IDLE"), process(SLEEP, "python"):
        assert set(worker_usage()) == {busy}


def test_a_worker_among_busy_processes_is_said_to_be_slowed_by_others():
    core = min(os.sched_getaffinity(0))
    with process(COMPUTE, core=core) as worker, ExitStack() as others:
        os.setpriority(os.PRIO_PROCESS, worker, 15)
        for _ in range(2):
            others.enter_context(process(COMPUTE, "other", core))
        before, began = worker_usage(), time.monotonic()
        for _ in range(LOOKS):
            time.sleep(0.1)
            if why_slow(before, worker_usage(), time.monotonic() - began):
                return
    pytest.fail("a worker without a core was not noticed in a minute")


def test_a_worker_that_sleeps_is_not_said_to_be_slowed():
    with process(SLEEP):
        before = worker_usage()
        time.sleep(0.3)
        assert why_slow(before, worker_usage(), 0.3) is None


def test_a_worker_that_was_stopped_is_named_until_it_continues():
    with process(COMPUTE) as worker:
        os.kill(worker, signal.SIGSTOP)
        os.waitpid(worker, os.WUNTRACED)
        before = worker_usage()
        assert (stopped(before, worker_usage()) or "").endswith(f"to let it continue: kill -CONT {worker}")
        os.kill(worker, signal.SIGCONT)
        os.waitpid(worker, os.WCONTINUED)
        assert stopped(before, worker_usage()) is None


def test_processes_of_another_driver_are_not_ours():
    with process(SLEEP) as busy:
        assert worker_usage(driver=busy) == {}
