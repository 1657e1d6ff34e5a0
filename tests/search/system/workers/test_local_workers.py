"""Real Ray workers that are stopped for seconds: their stages end as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vitsearch.devices.cores import Cores
from vitsearch.stages import Job
from vitsearch.workers.cluster.resources import Resources
from vitsearch.workers.local_workers import LocalWorkers
from vitsearch.workers.process_guard import ProcessGuard
from vitsearch.workers.process_tree import ProcessTree, stat_fields
from vitsearch.workers.ray_runner import KEEPALIVE_MS, RayRunner

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="workers pause through /proc")


ALLOWED = sorted(os.sched_getaffinity(0))
CORES = Cores(device=(ALLOWED[-1],), trainers=(ALLOWED[0],))


@dataclass(frozen=True)
class CountJob(Job[int]):
    """Writes a dot into `file` every hundredth of a second until there is a file with the suffix `.end` beside it."""

    stage = "count"
    file: Path


def _run_task_on(job, resources, log):
    import subprocess
    import time

    from ray._raylet import Config

    from vitsearch.storage.stage_cost import StageCost

    with subprocess.Popen(["sleep", "600"]) as child:  # a worker may have children, such as loaders of data
        while not job.file.with_suffix(".end").exists():
            with job.file.open("a") as stream:
                stream.write(".")
            time.sleep(0.01)
        child.kill()
    return (os.nice(0), Config.grpc_client_keepalive_time_ms()), StageCost(0.0)


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with ProcessGuard() as guard:
        runner = RayRunner(Resources(trainers=1, cpus=1, gpus=0.0), tmp_path_factory.mktemp("logs"))
        runner._run_task = runner._ray.remote(num_cpus=1, max_retries=0)(_run_task_on)
        yield LocalWorkers(runner, guard, CORES, lambda: False)
        runner.close()


@pytest.fixture(scope="module")
def run():
    """Runs a coroutine in the event loop of all tests here, as a runner has only one."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


def states() -> dict[str, str]:
    """The state of every process that this one has started, by its title."""
    by_title = {}
    for pid, _ in ProcessTree("no such token", os.getpid()).ids():
        with suppress(OSError):  # it has just ended
            by_title[Path(title_of(pid)).name] = stat_fields(Path(f"/proc/{pid}"))[0]
    return by_title


def title_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]


async def soon(condition: Callable[[], bool]) -> bool:
    for _ in range(600):
        if condition():
            return True
        await asyncio.sleep(0.1)
    return False


def dots(file: Path) -> int:
    return len(file.read_text()) if file.exists() else 0


def end(file: Path) -> None:
    """Let the stage that writes dots into `file` end."""
    file.with_suffix(".end").touch()


@pytest.fixture
def file(tmp_path):
    """Where a stage writes dots; it ends with its test at the latest."""
    yield tmp_path / "dots"
    end(tmp_path / "dots")


@pytest.mark.long
def test_a_stage_that_is_paused_for_seconds_finishes(workers, run, file):
    async def scenario():
        running = asyncio.ensure_future(workers.runner.run(CountJob(None, file)))
        assert await soon(lambda: dots(file) > 0)
        assert workers.busy == 1.0
        workers.pause()
        now, before = states(), dots(file)
        assert (now["ray::_run_task_on"], now["sleep"]) == ("T", "T")
        assert {name for name, state in now.items() if state == "T"} == {"ray::_run_task_on", "sleep"}
        await asyncio.sleep(5.0)
        assert dots(file) == before
        workers.resume()
        assert await soon(lambda: dots(file) > before)
        end(file)
        (niceness, keepalive_ms), _ = await running
        assert niceness == os.nice(0)  # Ray's own is 15
        assert keepalive_ms == KEEPALIVE_MS

    run(scenario())
    assert workers.busy == 0.0


def places() -> set[frozenset[int]]:
    """The cores on which the threads of the worker and of what it has started may run."""
    found = set()
    for pid in ProcessTree("no such token", os.getpid())._workers():
        with suppress(OSError):  # the process has just ended
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):  # the thread has just ended
                    found.add(frozenset(os.sched_getaffinity(int(thread.name))))
    return found


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core has to measure and to train")
@pytest.mark.long
def test_workers_keep_off_the_cores_that_measure_until_they_may_use_all_again(workers, run, file):
    async def scenario():
        running = asyncio.ensure_future(workers.runner.run(CountJob(None, file)))
        assert await soon(lambda: dots(file) > 0)
        workers.make_room()
        assert places() == {frozenset(CORES.trainers)}
        workers.resume()
        assert places() == {frozenset(CORES.all)}
        workers.make_room()
        workers.pause()
        workers.resume()
        assert places() == {frozenset(CORES.all)}
        replace(workers, is_device_shared=lambda: True).resume()
        assert places() == {frozenset(CORES.trainers)}
        end(file)
        await running

    run(scenario())


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core has to measure and to train")
@pytest.mark.long
def test_a_worker_that_starts_later_is_moved_too(workers, run, file):
    async def scenario():
        workers.make_room()
        for pid in ProcessTree("no such token", os.getpid())._workers():
            os.kill(pid, signal.SIGKILL)
        running = asyncio.ensure_future(workers.runner.run(CountJob(None, file)))
        assert await soon(lambda: dots(file) > 0)
        assert await soon(lambda: places() == {frozenset(CORES.trainers)})
        workers.resume()
        end(file)
        await running

    run(scenario())


@pytest.mark.long
def test_no_stage_starts_during_a_pause(workers, run, file):
    async def scenario():
        workers.pause()
        waiting = asyncio.ensure_future(workers.runner.run(CountJob(None, file)))
        await asyncio.sleep(1.0)
        assert dots(file) == 0
        workers.resume()
        assert await soon(lambda: dots(file) > 0)
        end(file)
        await waiting

    run(scenario())


def is_stage(pid: int) -> bool:
    try:
        return title_of(pid).startswith("ray::_run_task_on")
    except OSError:  # it has just ended
        return False


@pytest.mark.long
def test_a_stage_whose_worker_is_killed_in_a_pause_is_repeated_after_it(workers, run, file):
    async def scenario():
        running = asyncio.ensure_future(workers.runner.run(CountJob(None, file)))
        assert await soon(lambda: dots(file) > 0)
        workers.pause()
        ids = ProcessTree("no such token", os.getpid()).ids()
        pids = [pid for pid, _ in ids if is_stage(pid)]
        os.kill(pids[0], signal.SIGKILL)
        before = dots(file)
        await asyncio.sleep(2.0)
        assert dots(file) == before
        workers.resume()
        assert await soon(lambda: dots(file) > before)
        end(file)
        await running

    run(scenario())
    assert "T" not in states().values()
