"""A run on a Ray cluster of several nodes: one is lost in the middle of a stage, or has no memory left."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vitsearch.core.activity import Work, doing
from vitsearch.errors import StageError, WorkersLost
from vitsearch.stages import Job
from vitsearch.workers.cluster.resources import Resources
from vitsearch.workers.cluster.worker_losses import NO_MEMORY
from vitsearch.workers.ray_runner import RayRunner

pytestmark = pytest.mark.long

PATIENCE_S = 120.0


@pytest.fixture
def make_cluster(monkeypatch):
    """Starts a head with `arguments` and further nodes of one core each, which only this test finds."""
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray.cluster_utils import Cluster

    clusters = []

    def make(nodes, **arguments):
        ensure_token_if_auth_enabled()  # as ray.init does for a cluster of its own
        clusters.append(Cluster(initialize_head=True, head_node_args=arguments))
        for _ in range(nodes):
            clusters[0].add_node(num_cpus=1)
        return clusters[0]

    # A short path, for sockets; and of its own, because Ray notes the newest cluster of a machine there.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield make
        for cluster in clusters:
            cluster.shutdown()


def _answer_on_node(job, resources, log):
    """Answers as FakeRunner does, and notes in a file that the stage has started on this node. Trainings last until a
    node is lost; on that node until they are killed with it, which takes seconds on a busy machine."""
    import os
    import time

    import ray

    from vitsearch.storage.stage_cost import StageCost
    from vitsearch.testing.fakes import FakeRunner
    from vitsearch_agent.base.canonical_json import digest

    node = ray.get_runtime_context().get_node_id()
    folder = job.workspace.cache / "starts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{job.stage}.{digest(repr(job))}.{node}.{time.time_ns()}-{os.getpid()}").touch()
    patience_s, lost = 120.0, job.workspace.cache / "lost"  # what is sent to a node knows no name of this module
    while job.stage == "train" and patience_s > 0 and (not lost.exists() or lost.read_text() == node):
        time.sleep(0.1)
        patience_s -= 0.1
    return FakeRunner()._answer(job), StageCost(0.0, ran_on=f"worker {node}/{os.getpid()}")


@dataclass(frozen=True)
class Start:
    stage: str
    job: str
    node: str
    time: str


def starts(folder: Path) -> list[Start]:
    starts_of = [Start(*path.name.split(".")) for path in folder.glob("cache/starts/*")]
    return sorted(starts_of, key=lambda start: start.time)


class LosesANode(threading.Thread):
    """Kills the first node that trains, in the middle of its training."""

    def __init__(self, cluster, folder):
        super().__init__()
        self.cluster, self.folder, self.node = cluster, folder, None

    def run(self):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for start in starts(self.folder):
                if start.stage == "train":
                    self.node = start.node
                    lost = next(node for node in self.cluster.worker_nodes if node.node_id == start.node)
                    self.cluster.remove_node(lost, allow_graceful=False)
                    replacing = self.folder / "cache" / "lost.part"
                    replacing.write_text(start.node)
                    replacing.rename(replacing.with_suffix(""))
                    return
            time.sleep(0.05)


def test_a_lost_node_repeats_only_the_stage_that_it_was_making(make_cluster, make_study, tmp_path):
    cluster = make_cluster(2, num_cpus=0)
    runner = RayRunner(Resources(2, 1, 0.0), tmp_path / "logs", cluster.address)
    runner._run_task = runner._ray.remote(num_cpus=1, max_retries=0)(_answer_on_node)
    losing = LosesANode(cluster, tmp_path)
    losing.start()
    study = replace(make_study(trials=3), runner=runner, slots=2)
    ended = study.run()
    losing.join()
    runner.close()
    assert ended.complete
    assert study.trained == 3
    begun = starts(tmp_path)
    (repeated,) = [job for job, times in Counter(start.job for start in begun).items() if times > 1]
    first, second = (start for start in begun if start.job == repeated)
    assert (first.stage, first.node) == ("train", losing.node)
    assert second.node != losing.node
    with closing(sqlite3.connect(tmp_path / "fake.db")) as database:
        in_ledger = Counter(
            stage for (stage,) in database.execute("SELECT stage FROM vs_stage_cost WHERE ran_on LIKE 'worker%'")
        )
    assert in_ledger == Counter(start.stage for start in {start.job: start for start in begun}.values())


@dataclass(frozen=True)
class SleepJob(Job[int]):
    stage = "stage"


def _sleep(job, resources, log):
    import time

    time.sleep(600)


def test_a_stage_whose_nodes_have_no_memory_left_asks_for_more_and_fails_in_the_end(make_cluster, tmp_path):
    cluster = make_cluster(0, num_cpus=1, _system_config={"memory_usage_threshold": 0.01})
    runner = RayRunner(Resources(1, 1, 0.0), tmp_path / "logs", cluster.address)
    runner._run_task = runner._ray.remote(num_cpus=1, max_retries=0)(_sleep)
    twice = replace(NO_MEMORY, allowed=1)
    runner._losses = {kind: twice if loss is NO_MEMORY else loss for kind, loss in runner._losses.items()}
    try:
        with pytest.raises(StageError, match="2 workers were ended because their node ran out of memory") as caught:
            asyncio.run(runner.run(SleepJob(None)))
        assert caught.value.kind == "out_of_memory"
        assert runner._demand.request_bytes(("stage", ""), 10**12) > runner._largest_node_bytes() / 2
    finally:
        runner.close()


async def _run_until(runner, event, work):
    """Runs a stage that ends in hours; `event` is called once its worker has reported."""
    with doing(work):
        running = asyncio.ensure_future(runner.run(SleepJob(None)))
    while work.activity.text != "asleep":
        await asyncio.sleep(0.1)
    event()
    return await running


def _report_and_sleep(job, resources, log):
    import time

    from vitsearch.core.activity import current
    from vitsearch.workers.cluster.reports import reporting
    from vitsearch.workers.ray_runner import _mailbox

    with reporting(_mailbox(log), "10.0.0.2"):
        current().text = "asleep"
        time.sleep(600)


def test_a_lost_head_ends_the_run_with_how_to_resume_before_ray_ends_the_process(make_cluster, tmp_path):
    cluster = make_cluster(1, num_cpus=1)
    runner = RayRunner(Resources(1, 1, 0.0), tmp_path / "logs", cluster.address)
    runner._run_task = runner._ray.remote(num_cpus=1, max_retries=0)(_report_and_sleep)
    lost_at = []

    def lose_head():
        lost_at.append(time.monotonic())
        cluster.head_node.kill_gcs_server(check_alive=False)

    try:
        with pytest.raises(WorkersLost, match=f"the head of the Ray cluster at {cluster.address} is lost"):
            asyncio.run(_run_until(runner, lose_head, Work()))
    finally:
        runner.close()
    assert time.monotonic() - lost_at[0] < 45.0, "Ray waits for its head for 60 s, and then ends the process"


def test_a_lost_node_is_named_and_its_stage_waits_for_another(make_cluster, tmp_path, warnings_of):
    heard, cluster = warnings_of("vitsearch.workers.cluster.worker_losses"), make_cluster(1, num_cpus=0)
    runner = RayRunner(Resources(1, 1, 0.0), tmp_path / "logs", cluster.address)
    runner._run_task = runner._ray.remote(num_cpus=1, max_retries=0)(_report_and_sleep)

    async def lose_it():
        with doing(Work()) as work:
            running = asyncio.ensure_future(runner.run(SleepJob(None)))
        while work.activity.text != "asleep":
            await asyncio.sleep(0.1)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        while work.activity.awaits is None:
            await asyncio.sleep(0.1)
        running.cancel()
        return work.activity.awaits

    try:
        awaits = asyncio.run(asyncio.wait_for(lose_it(), PATIENCE_S))
    finally:
        runner.close()
    lost = f"stage: a node was lost: {socket.gethostname()} (10.0.0.2) (1 of 21); the stage runs again"
    assert heard == [lost]
    assert awaits.startswith(f"waits for a free worker of the Ray cluster at {cluster.address}, 1")
