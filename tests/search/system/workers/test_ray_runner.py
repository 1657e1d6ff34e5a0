"""Stages on real Ray workers: results, failures, crashes, and missing resources."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from vitsearch.core.activity import Work, doing
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError, StoreError, WorkerCrashed
from vitsearch.stages import BaseJob, Job, TrainJob
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost, StageKind
from vitsearch.testing.fakes import FakeRunner
from vitsearch.workers import ray_runner as runners
from vitsearch.workers.cluster.memory_demand import MemoryDemand
from vitsearch.workers.cluster.places import WAITS
from vitsearch.workers.cluster.resources import Resources, require_cluster
from vitsearch.workers.cluster.worker_losses import KILLED
from vitsearch.workers.ray_runner import InlineRunner, RayRunner, versions

KIND = StageKind("stage", "")


@dataclass(frozen=True)
class StageJob(Job[int]):
    """A job whose task is replaced by a function of this test."""

    stage = "stage"
    how: str


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def ray_runner(logs):
    """Of this machine alone, also where the environment names a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        runner = RayRunner(Resources(trainers=1, cpus=1, gpus="auto"), logs, peaks_mb={KIND: 100.0})
    assert isinstance(runner.resources.gpus, float)
    yield runner
    runner.close()


@pytest.fixture
def with_stage(ray_runner, monkeypatch):
    """Sends a function of this test to the worker instead of the one that imports torch."""
    remote = ray_runner._ray.remote(num_cpus=1, max_retries=0)(_run_task_on)
    monkeypatch.setattr(ray_runner, "_run_task", remote)
    return ray_runner


def _run_task_on(job, resources, log):
    from vitsearch.workers import ray_runner

    ray_runner.run_task = _run_task
    return ray_runner._run_task_on(job, resources, log)


def _run_task(job):
    """Does what `job.how` says: "die SIGNAL FILE TIMES" ends the worker until `FILE` counts so many deaths."""
    import signal
    from pathlib import Path

    import ray

    from vitsearch.errors import StageError

    if job.how == "memory":
        return ray.get_runtime_context().get_assigned_resources().get("memory"), StageCost(0.0, peak_memory_mb=400.0)
    if job.how == "stage error":
        raise StageError("train", "not_finite", "the loss is NaN at step 3")
    if job.how == "full disk":
        raise OSError(28, "No space left on device", "model.onnx")
    if job.how == "no memory":
        raise MemoryError
    if job.how == "no memory for a tensor":
        import torch

        torch.empty(2**55, dtype=torch.uint8)  # more than a processor can address
    if job.how == "bug":
        raise KeyError("weights")
    if job.how.startswith("die"):
        _, name, deaths, times = job.how.split(" ")
        seen = len(Path(deaths).read_text()) if Path(deaths).exists() else 0
        if seen < int(times):
            Path(deaths).write_text("x" * (seen + 1))
            os.write(2, b"corrupted double-linked list\n")
            os.kill(os.getpid(), signal.Signals[name])
    return 7, StageCost(0.0)


def run(runner, how):
    return asyncio.run(runner.run(StageJob(None, how)))


@pytest.mark.long
def test_a_result_comes_back(with_stage):
    assert run(with_stage, "well")[0] == 7


@pytest.mark.long
def test_a_stage_says_that_it_waits_while_another_one_has_the_worker(with_stage):
    async def both():
        works = Work(), Work()
        stages = [asyncio.create_task(_worked(with_stage, work)) for work in works]
        await asyncio.sleep(0)  # both have asked for the worker
        while works[0].activity.text == WAITS:  # Python 3.11 takes some turns more to give it
            await asyncio.sleep(0)
        texts = [work.activity.text for work in works]
        await asyncio.gather(*stages)
        return texts, [work.activity.text for work in works]

    assert asyncio.run(both()) == (["", WAITS], ["", ""])


async def _worked(runner, work):
    with doing(work):
        return await runner.run(StageJob(None, "well"))


@pytest.mark.long
def test_a_stage_error_is_raised_unchanged(with_stage):
    with pytest.raises(StageError, match="the loss is NaN at step 3") as caught:
        run(with_stage, "stage error")
    assert (caught.value.stage, caught.value.kind) == ("train", "not_finite")


def test_any_other_exception_becomes_a_stage_error_that_names_it(with_stage):
    with pytest.raises(StageError, match="weights") as caught:
        run(with_stage, "bug")
    assert caught.value.kind == "KeyError"


def test_a_stage_that_ends_leaves_no_log(with_stage, logs):
    run(with_stage, "well")
    assert list(logs.iterdir()) == []


@pytest.mark.long
def test_a_worker_that_is_killed_is_replaced(with_stage, tmp_path):
    assert run(with_stage, f"die SIGKILL {tmp_path / 'deaths'} 2")[0] == 7


@pytest.mark.long
def test_a_stage_whose_workers_are_killed_again_and_again_fails(with_stage, tmp_path, monkeypatch):
    twice = replace(KILLED, allowed=1)  # each new worker costs seconds
    monkeypatch.setattr(with_stage, "_losses", dict.fromkeys(with_stage._losses, twice))
    with pytest.raises(StageError, match="2 workers were lost and left no trace: they were killed") as caught:
        run(with_stage, f"die SIGKILL {tmp_path / 'deaths'} 9")
    assert (caught.value.kind, type(caught.value)) == ("crash", StageError)


@pytest.mark.long
def test_a_stage_that_crashes_once_is_repeated(with_stage, tmp_path):
    assert run(with_stage, f"die SIGSEGV {tmp_path / 'deaths'} 1")[0] == 7


@dataclass
class FailingStage(FakeRunner):
    """Sends every job of a kind to a real worker, which fails; answers all other stages itself."""

    runner: RayRunner = field(kw_only=True)
    how: str = field(kw_only=True)
    kind: type[Job] = BaseJob

    async def run(self, job):
        return await (self.runner.run(StageJob(None, self.how)) if isinstance(job, self.kind) else super().run(job))


@pytest.mark.long
def test_plans_fail_at_once_after_a_shared_stage_crashed_two_workers(with_stage, fake_study, plan, tmp_path, capfd):
    """No third worker dies for the next plan or precision, and what Ray prints about the two stays off the terminal."""
    int8 = Deployment("local", "onnxruntime", "cpu", "int8_dynamic")
    study = replace(fake_study, runner=FailingStage(runner=with_stage, how=f"die SIGABRT {tmp_path / 'deaths'} 9"))
    ledger = Ledger.open(study.space.storage)
    pipeline = study.pipeline(ledger)
    messages = set()
    for each in (plan, replace(plan, resolution=ImageSize.square(24)), replace(plan, deployments=(int8,))):
        with pytest.raises(WorkerCrashed) as caught:
            asyncio.run(pipeline.resolve(each))
        messages.add(str(caught.value))
    ledger.close()
    (message,) = messages
    assert (tmp_path / "deaths").read_text() == "xx"
    assert "died in native code of SIGABRT; its stderr ends with: corrupted double-linked list | " in message
    assert " in _run_task | File " in message
    log = message.rpartition("log: ")[2]
    assert "Fatal Python error: Aborted" in Path(log).read_text()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("no memory", "MemoryError"),
        pytest.param("no memory for a tensor", "DefaultCPUAllocator: can't allocate memory", marks=pytest.mark.long),
    ],
)
def test_trainings_without_memory_fail_in_words_and_the_run_ends(with_stage, fake_study, how, error):
    few = fake_study.ending(listed_plans=0, failures=2).with_space(search__trials=3)
    ended = replace(few, runner=FailingStage(runner=with_stage, how=how, kind=TrainJob)).run()
    assert " trials in a row failed; the last one: " in ended.reason
    failures = [record.failure for record in few.records().values() if record.outcome == "failed"]
    assert len(failures) >= 2
    for failure in failures:
        assert (failure["stage"], failure["kind"]) == ("stage", "out_of_memory")
        assert failure["message"].startswith("its worker got no more memory (")
        assert error in failure["message"]
    assert run(with_stage, "well")[0] == 7, "the worker lives"


@pytest.mark.long
def test_a_stage_asks_for_the_memory_that_its_kind_took_before(with_stage):
    """100 MB in an earlier run, and then 400 MB in the first stage of this one; a quarter more, in steps of 100 MB."""
    assert [run(with_stage, "memory")[0] for _ in range(2)] == [2e8, 5e8]


def test_a_stage_that_needs_more_than_any_node_has_asks_for_the_largest(with_stage, monkeypatch):
    monkeypatch.setattr(with_stage, "_demand", MemoryDemand({KIND: 1e9}))
    assert run(with_stage, "memory")[0] == with_stage._largest_node_bytes()


@pytest.mark.long
def test_a_stage_that_waits_for_a_node_that_was_lost_asks_again(with_stage, monkeypatch):
    """The node that had enough memory is lost while the stage waits for room on it."""
    memory_bytes = iter([2 * 10**15])
    monkeypatch.setattr(runners, "NODES_S", 1.0)
    monkeypatch.setattr(with_stage, "_demand", MemoryDemand({KIND: 1e9}))
    monkeypatch.setattr(with_stage, "_largest_node_bytes", lambda: next(memory_bytes, 3 * 10**8))
    assert run(with_stage, "memory")[0] == 3e8


@pytest.mark.parametrize(("gpus", "visible"), [(0.0, ""), (0.5, "0,1")])
def test_a_worker_without_a_gpu_sees_none(monkeypatch, tmp_path, gpus, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(runners, "run_task", lambda job: os.environ["CUDA_VISIBLE_DEVICES"])
    assert runners._run_task_on(StageJob(None, "well"), Resources(1, 1, gpus), tmp_path / "log") == visible


def test_the_inline_runner_measures_the_cost_of_a_stage(monkeypatch):
    monkeypatch.setattr(StageJob, "work", lambda job: 7)
    result, cost = asyncio.run(InlineRunner().run(StageJob(None, "well")))
    assert result == 7
    assert cost.cpu_seconds >= 0.0
    assert cost.peak_memory_mb is None or cost.peak_memory_mb > 10.0
    assert "torch" in cost.versions


def test_versions_are_those_of_the_installed_distributions():
    assert versions()["torch-pruning"].startswith("1.6")


def test_a_full_disk_is_no_failure_of_the_plan(with_stage):
    message = "stage: No space left on device: model.onnx; make room and run the same command again"
    with pytest.raises(StoreError, match=message):
        asyncio.run(with_stage.run(StageJob(None, "full disk")))


@pytest.mark.long
def test_a_cluster_that_answers_may_be_joined_with_its_token(ray_runner, monkeypatch):
    """The token is that of the environment, as of a user who joins; here it is that of the worker of a cluster."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    variables = ray_runner._ray.remote(num_cpus=1)(lambda: {name: os.environ[name] for name in names})
    for name, value in ray_runner._ray.get(variables.remote()).items():
        monkeypatch.setenv(name, value)
    require_cluster(ray_runner._ray.get_runtime_context().gcs_address)
