"""Why workers make little progress: from what two looks at their processes show."""

from __future__ import annotations

import pytest

from vitsearch.workers.ray_runner import _run_task_on
from vitsearch.workers.worker_usage import TITLE, WorkerUsage, why_slow

BEFORE = {7: WorkerUsage(100.0, 50.0, False)}


def after(cpu_s: float, ready_s: float | None = 0.0, reads_disk: bool = False) -> dict[int, WorkerUsage]:
    return {7: WorkerUsage(100.0 + cpu_s, None if ready_s is None else 50.0 + ready_s, reads_disk)}


def test_a_worker_that_is_ready_but_gets_no_core_is_slowed_by_others():
    text = why_slow(BEFORE, after(cpu_s=2.4, ready_s=57.0), 60.0)
    assert text == "got 4 % of a core in the last 60 s: other processes use this machine"


def test_a_worker_that_computes_is_not_slow():
    assert why_slow(BEFORE, after(cpu_s=55.0, ready_s=5.0), 60.0) is None


def test_a_worker_that_is_stopped_while_a_local_measurement_runs_is_not_slowed_by_others():
    assert why_slow(BEFORE, after(cpu_s=1.0, ready_s=0.0), 60.0) is None


def test_a_worker_that_sleeps_and_waits_for_a_core_for_a_moment_is_not_slowed():
    assert why_slow(BEFORE, after(cpu_s=0.0, ready_s=0.4), 60.0) is None


def test_a_worker_that_waits_for_the_disk_says_so():
    reading = {7: WorkerUsage(100.0, 50.0, True)}
    text = why_slow(reading, after(cpu_s=1.2, ready_s=0.0, reads_disk=True), 60.0)
    assert text == "got 2 % of a core in the last 60 s: waits for the disk"


def test_a_kernel_that_does_not_count_waiting_blames_nobody():
    assert why_slow(BEFORE, after(cpu_s=1.2, ready_s=None), 60.0) is None


@pytest.mark.parametrize("now", [{}, {8: WorkerUsage(1.0, 9.0, False)}])
def test_a_worker_that_was_not_there_before_tells_nothing(now):
    assert why_slow(BEFORE, now, 60.0) is None


@pytest.mark.long
def test_ray_gives_a_busy_worker_the_title_that_is_looked_for():
    assert f"ray::{_run_task_on.__name__}".encode().startswith(TITLE)
