"""Runs stages on workers: Ray tasks, or this process for tests and benchmarks. The only door to Ray.

The driver asks and tells by itself and gives Ray single stages: trials share stages, wait for devices
outside any worker, and survive the driver, none of which a trial-per-actor runner allows.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Literal, TypeVar

from vitsearch.errors import ResourceError, StageError, VitsearchError, WorkersLost
from vitsearch.pipeline.jobs import Job
from vitsearch.storage.stage_cost import StageCost

R = TypeVar("R")
CRASHES_ALLOWED = 4
"""A worker that dies is replaced and the stage repeated; one death more is the stage's own fault."""
OBJECT_STORE_BYTES = 100 * 2**20
VERSIONS_OF = ("vitsearch", "torch", "timm", "torch-pruning", "onnx", "onnxruntime", "numpy")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """Per trainer: CPUs, GPUs (a share is allowed; ``auto`` shares out what is there); ``cores`` pins the
    workers to these processors."""

    trainers: int
    cpus: int
    gpus: float | Literal["auto"]
    cores: tuple[int, ...] = ()


class InlineRunner:
    """Runs each stage in this process, one after the other."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        return work(job)

    def close(self) -> None:
        pass


class RayRunner:
    """Ray tasks, each on ``cpus`` and ``gpus``; at most ``trainers`` at a time. ``resources`` are those that
    it found; a GPU's worker ends with its stage, so that it holds no memory of the GPU in between.

    ``address`` joins a running cluster; None starts one on this machine that ends with this process.
    """

    def __init__(self, resources: Resources, address: str | None = None) -> None:
        # Neither Ray nor onnxruntime shall tell anybody what runs here; workers inherit both.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        # Ray's own note about GPU variables on CPU-only workers; we never rely on either behaviour.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self._ray = ray
        self._lost_worker = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)
        local = (
            {}
            if address
            else {
                "num_cpus": resources.trainers * resources.cpus,
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
            }
        )
        with _deaf_to_ctrl_c():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
        try:
            there = ray.cluster_resources()
            resources = replace(resources, gpus=gpus_of(resources, there.get("GPU", 0.0)))
            refuse_lacking(resources, there, address)
        except ResourceError:
            ray.shutdown()
            raise
        self.resources = resources
        remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)
        self._work = remote(_work_with)
        self._places = asyncio.Semaphore(resources.trainers)

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        crashes = 0
        while True:
            try:
                async with self._places:
                    result: tuple[R, StageCost] = await self._submit(job)
                return result
            except self._lost_worker as error:
                crashes += 1
                logger.warning("a worker died in %s (%d of %d)", job.stage, crashes, CRASHES_ALLOWED + 1)
                if crashes > CRASHES_ALLOWED:
                    raise StageError(job.stage, "crash", f"its worker died {crashes} times: {error}") from error

    async def _submit(self, job: Job[Any]) -> Any:
        reference = self._work.remote(job, self.resources)
        try:
            return await asyncio.wrap_future(reference.future())
        except asyncio.CancelledError:
            self._ray.cancel(reference, force=True)
            raise
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, VitsearchError):
                raise cause from error
            raise StageError(job.stage, type(cause).__name__, str(cause)) from error
        except self._lost_worker:
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkersLost(f"Ray stopped working in {job.stage}: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        self._ray.shutdown()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started inside inherits that it ignores SIGINT: Ctrl-C is for the driver, which ends Ray in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def gpus_of(wanted: Resources, there: float) -> float:
    """GPUs for each trainer. ``auto``: one, or an equal share of one where trainers are more than GPUs."""
    if wanted.gpus != "auto":
        return wanted.gpus
    gpus = int(there)
    return 1.0 / math.ceil(wanted.trainers / gpus) if gpus else 0.0


def refuse_lacking(wanted: Resources, there: Mapping[str, float], address: str | None) -> None:
    """Refuse at the start what would be waited for without end."""
    where = f"the Ray cluster at {address}" if address else "this machine"
    needs = {"CPU": float(wanted.cpus), "GPU": gpus_of(wanted, there.get("GPU", 0.0))}
    lacking = [f"{amount:g} {name}" for name, amount in needs.items() if amount > there.get(name, 0.0)]
    if lacking:
        raise ResourceError(
            f"resources: each trainer wants {' and '.join(lacking)}, but {where} has "
            f"{there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU"
        )


def work(job: Job[R]) -> tuple[R, StageCost]:
    """Run the stage that ``job`` names and note its CPU-seconds (all threads of this process)."""
    stages = importlib.import_module("vitsearch.workers.tasks")
    started = time.process_time()
    result: R = stages.TASKS[type(job)](job)
    return result, StageCost(time.process_time() - started, versions())


def _work_with(job: Job[R], resources: Resources) -> tuple[R, StageCost]:
    if resources.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, resources.cores)
    if not resources.gpus:  # Ray leaves them in sight; CUDA reads this when it is first used, which is later
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return work(job)


def versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
