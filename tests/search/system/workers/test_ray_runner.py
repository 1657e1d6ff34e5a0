"""Stages on real Ray workers: results, failures, crashes, and missing resources."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass

import pytest

from vitsearch.errors import ResourceError, StageError, StoreError
from vitsearch.pipeline.jobs import Job
from vitsearch.workers import ray_runner as runners
from vitsearch.workers import tasks
from vitsearch.workers.ray_runner import InlineRunner, RayRunner, Resources, require_cluster, versions


@dataclass(frozen=True)
class StageJob(Job[int]):
    """A job whose task is replaced by a function of this test."""

    stage = "stage"
    how: str


@pytest.fixture(scope="module")
def ray_runner():
    runner = RayRunner(Resources(trainers=1, cpus=1, gpus="auto"))
    assert isinstance(runner.resources.gpus, float)
    yield runner
    runner.close()


@pytest.fixture
def with_stage(ray_runner, monkeypatch):
    """Sends a function of this test to the worker instead of the one that imports torch."""
    remote = ray_runner._ray.remote(num_cpus=1, max_retries=0)(_run_task_on)
    monkeypatch.setattr(ray_runner, "_run_task", remote)
    return ray_runner


def _run_task_on(job, resources):
    import signal
    from pathlib import Path

    from vitsearch.errors import StageError

    if job.how == "stage error":
        raise StageError("train", "not_finite", "the loss is NaN at step 3")
    if job.how == "full disk":
        raise OSError(28, "No space left on device", "model.onnx")
    if job.how == "bug":
        raise KeyError("weights")
    if job.how.startswith("die"):
        crashes = Path(job.how.partition(" ")[2])
        seen = len(crashes.read_text()) if crashes.exists() else 0
        if seen < job.workspace:
            crashes.write_text("x" * (seen + 1))
            os.kill(os.getpid(), signal.SIGKILL)
    return 7, None


def run(runner, how, workspace=None):
    return asyncio.run(runner.run(StageJob(workspace, how)))


def test_a_result_comes_back(with_stage):
    assert run(with_stage, "well")[0] == 7


def test_a_stage_error_is_raised_unchanged(with_stage):
    with pytest.raises(StageError, match="the loss is NaN at step 3") as caught:
        run(with_stage, "stage error")
    assert (caught.value.stage, caught.value.kind) == ("train", "not_finite")


def test_any_other_exception_becomes_a_stage_error_that_names_it(with_stage):
    with pytest.raises(StageError, match="weights") as caught:
        run(with_stage, "bug")
    assert caught.value.kind == "KeyError"


def test_a_worker_that_crashes_is_replaced(with_stage, tmp_path):
    assert run(with_stage, f"die {tmp_path / 'crashes'}", workspace=2)[0] == 7


def test_a_stage_that_crashes_its_workers_again_and_again_fails(with_stage, tmp_path, monkeypatch):
    monkeypatch.setattr(runners, "CRASHES_ALLOWED", 1)  # each new worker costs seconds
    with pytest.raises(StageError, match="crashed 2 times") as caught:
        run(with_stage, f"die {tmp_path / 'crashes'}", workspace=9)
    assert caught.value.kind == "crash"


def test_missing_gpus_are_refused_at_the_start(ray_runner):
    with pytest.raises(ResourceError, match="needs 8 GPU, but this machine has"):
        runners.require_resources(Resources(1, 1, 8.0), {"CPU": 1.0}, None)


@pytest.mark.parametrize(
    ("trainers", "gpus", "there", "each"),
    [
        (1, "auto", 0, 0),
        (1, "auto", 1, 1),
        (3, "auto", 1, 1 / 3),
        (3, "auto", 2, 0.5),
        (2, "auto", 8, 1),
        (4, 0.0, 1, 0),
    ],
)
def test_gpus_are_divided_between_trainers(trainers, gpus, there, each):
    resources = Resources(trainers, 1, gpus)
    assert runners.gpus_of(resources, there) == each
    runners.require_resources(resources, {"CPU": 1.0, "GPU": there}, None)


@pytest.mark.parametrize(("gpus", "visible"), [(0.0, ""), (0.5, "0,1")])
def test_a_worker_without_a_gpu_sees_none(monkeypatch, gpus, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(runners, "run_task", lambda job: os.environ["CUDA_VISIBLE_DEVICES"])
    assert runners._run_task_on(StageJob(None, "well"), Resources(1, 1, gpus)) == visible


def test_the_inline_runner_measures_the_cost_of_a_stage(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, StageJob, lambda job: 7)
    result, made = asyncio.run(InlineRunner().run(StageJob(None, "well")))
    assert result == 7
    assert made.cpu_seconds >= 0.0
    assert "torch" in made.versions


def test_versions_are_those_of_the_installed_distributions():
    assert versions()["torch-pruning"].startswith("1.6")


def test_a_full_disk_is_no_failure_of_the_plan(with_stage):
    message = "stage: No space left on device: model.onnx; make room and run the same command again"
    with pytest.raises(StoreError, match=message):
        asyncio.run(with_stage.run(StageJob(None, "full disk")))


def test_an_address_where_nobody_listens_is_refused_in_one_line(capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    message = rf"^no Ray cluster answers at {address} \(--address or RAY_ADDRESS\): Connection refused$"
    with pytest.raises(ResourceError, match=message):
        RayRunner(Resources(1, 1, 0.0), address)
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_no_cluster_is_refused_after_a_bounded_time(capfd):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ResourceError, match=rf"no Ray cluster answers at {address} .* within 0.5 s$"):
            require_cluster(address, wait_s=0.5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("ray_runner")
def test_a_cluster_that_answers_may_be_joined():
    require_cluster("auto")
