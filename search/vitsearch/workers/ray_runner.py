"""Runners of stages: Ray workers, or this process for tests and benchmarks. The only module that imports Ray.

The driver itself talks to the sampler, and hands single stages to Ray. Trials share stages, wait
for devices outside any worker and survive the driver; a runner with one actor for each trial allows none of this.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from vitsearch.core.activity import Activity, Work, current
from vitsearch.errors import ResourceError, StageError, StoreError, VitsearchError, WorkersLost
from vitsearch.stages import Job
from vitsearch.storage.atomic_files import no_room
from vitsearch.storage.stage_cost import StageCost, StageKind
from vitsearch.workers.cluster import worker_losses
from vitsearch.workers.cluster.head import ClusterHead
from vitsearch.workers.cluster.memory_demand import MemoryDemand, kind_of
from vitsearch.workers.cluster.own_ray import OwnRay, in_one_line, take_back_umask
from vitsearch.workers.cluster.peak_memory import peak_memory
from vitsearch.workers.cluster.places import Places
from vitsearch.workers.cluster.reports import REPORT_S, Mailbox, reporting
from vitsearch.workers.cluster.resources import (
    Resources,
    gpus_of,
    largest_memory_bytes,
    require_cluster,
    require_resources,
)
from vitsearch.workers.cluster.worker_losses import WorkerLosses
from vitsearch.workers.crash_log import NativeCrash, stderr_to
from vitsearch_agent.runtimes.base import is_out_of_memory

R = TypeVar("R")
NODES_S = 30.0
"""So long, what the nodes of a cluster have counts as known."""
OBJECT_STORE_BYTES = 100 * 2**20
KEEPALIVE_MS = 24 * 3600 * 1000
NOTHING_KNOWN: Mapping[StageKind, float] = {}
VERSIONS_OF = ("vitsearch", "torch", "timm", "torch-pruning", "onnx", "onnxruntime", "numpy")

logger = logging.getLogger(__name__)


class InlineRunner:
    """Runs each stage in this process, one after another."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        return run_task(job)

    def close(self) -> None:
        pass


class RayRunner:
    """Runs each stage as a Ray task on `cpus` and `gpus`, at most `trainers` at a time (`Places` has the exception).

    A stage also asks for the memory that stages of its kind took before; `peaks_mb` are those of earlier runs.
    `logs` is a folder, shared with the workers: stderr of a stage goes there and is kept if the stage crashes.
    `address` joins a running cluster, which must answer soon; `None` starts one on this machine that only this run
    can use (`vitsearch.workers.cluster.own_ray`), and which ends with this process.
    `resources` holds the resolved number of GPUs. A worker with a GPU ends with its stage, so that it holds no
    GPU memory between stages. Raises `ResourceError` when the cluster lacks what a trainer needs,
    and `WorkersLost` when Ray does not start.
    """

    def __init__(
        self,
        resources: Resources,
        logs: Path,
        address: str | None = None,
        peaks_mb: Mapping[StageKind, float] = NOTHING_KNOWN,
    ) -> None:
        configure_ray()
        if address is None:
            # Ray pings its processes every 5 minutes, and kills a worker that is stopped for 7, as in a long soak. On
            # one machine a dead process is noticed without pings, because its connection closes.
            os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", str(KEEPALIVE_MS))
        if address:
            require_cluster(address)
        import ray  # after the settings above, and only for those who search

        self._ray = ray
        self._token = uuid.uuid4().hex[:8]  # in a container every run has the same process id
        self._losses = {
            ray.exceptions.WorkerCrashedError: worker_losses.KILLED,
            ray.exceptions.NodeDiedError: worker_losses.NODE_LOST,
            # An object is lost where its result was on a node that is not any more.
            ray.exceptions.ObjectLostError: worker_losses.NODE_LOST,
            ray.exceptions.OutOfMemoryError: worker_losses.NO_MEMORY,
        }
        with _ignoring_interrupts():
            self._leave = _join(ray, address) if address else _start(ray, resources)
        try:
            resources = replace(resources, gpus=gpus_of(resources, ray.cluster_resources().get("GPU", 0.0)))
            require_resources(resources, self._nodes(), address)
        except ResourceError:
            self._leave()
            raise
        self.resources = resources
        self._head = ClusterHead(ray.get_runtime_context().gcs_address) if address else None
        self._awaited = f"a free worker of the Ray cluster at {address}" if address else "a free worker"
        self._demand = MemoryDemand(peaks_mb)
        self._node_bytes, self._seen_at = 0, -NODES_S
        remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)
        self._run_task = remote(_run_task_on)
        self._places = Places(resources.trainers, address is None and not resources.gpus)
        self._logs, self._tries = logs, count(1)
        self._wanted = 0
        self._is_headless = False
        self._may_start = asyncio.Event()
        self._may_start.set()

    @property
    def busy(self) -> float:
        """The share of the trainers that run a stage, 0 to 1. Stages that wait for a trainer count too."""
        return min(1.0, self._wanted / self.resources.trainers)

    def hold(self) -> None:
        """Start no further stage until `release`."""
        self._may_start.clear()

    def release(self) -> None:
        self._may_start.set()

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        self._wanted += 1
        try:
            return await self._run(job)
        finally:
            self._wanted -= 1

    async def _run(self, job: Job[R]) -> tuple[R, StageCost]:
        lost = WorkerLosses(job.stage)
        while True:
            log = self._logs / f"{job.stage}-{self._token}-{next(self._tries)}.log"
            crash, mailbox = None, _mailbox(log)
            try:
                async with self._places.place(job.stage) as is_beside:
                    cpus = 0 if is_beside else self.resources.cpus
                    result: tuple[R, StageCost] = await self._submit(job, log, mailbox, cpus)
                self._demand.learn(kind_of(job), result[1].peak_memory_mb)
                return result
            except tuple(self._losses) as error:
                crash = NativeCrash.read(log)
                if crash is None:
                    self._count(job, lost, error, mailbox.node)
                else:
                    lost.count_crash(crash, error)
            finally:
                if crash is None:
                    log.unlink(missing_ok=True)

    def _count(self, job: Job[Any], lost: WorkerLosses, error: Exception, node: str | None) -> None:
        """Count a worker that was lost on `node`, where that is known. Raises `StageError` if the stage is not
        repeated any more."""
        loss = next(loss for kind, loss in self._losses.items() if isinstance(error, kind))
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            self._demand.grow(kind_of(job), self._largest_node_bytes())
        self._seen_at = -NODES_S  # the cluster may be smaller now
        lost.count(loss, error, node)

    async def _submit(self, job: Job[Any], log: Path, mailbox: Mailbox, cpus: int) -> Any:
        while not self._may_start.is_set():
            await self._may_start.wait()
        try:
            return await self._result_of(job, log, mailbox, cpus)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, VitsearchError):
                raise cause from error
            if full := no_room(cause):
                raise StoreError(f"{job.stage}: {full}; make room and run the same command again") from error
            if is_out_of_memory(cause):
                raise worker_losses.without_memory(job.stage, in_one_line(cause)) from error
            raise StageError(job.stage, type(cause).__name__, str(cause)) from error
        except tuple(self._losses):
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkersLost(
                f"Ray failed in stage {job.stage}: {in_one_line(error)}; nothing is lost: run the same command again "
                "to resume"
            ) from error

    async def _result_of(self, job: Job[Any], log: Path, mailbox: Mailbox, cpus: int) -> Any:
        """Ask Ray for a worker on so many processors, and wait for what it returns. Raises `WorkersLost` if the head of
        the cluster is lost meanwhile: Ray would say nothing for a minute and then end this process."""
        while True:
            asked_bytes = self._demand.request_bytes(kind_of(job), await self._known_node_bytes())
            reference = self._run_task.options(num_cpus=cpus, memory=asked_bytes or None).remote(
                job, self.resources, log
            )
            result = asyncio.wrap_future(reference.future())
            following = asyncio.create_task(_follow(mailbox, current(), self._awaited))
            watching = asyncio.create_task(self._watch_head())
            try:
                while asked_bytes <= await self._known_node_bytes():
                    ended, _ = await asyncio.wait(
                        (result, watching), timeout=NODES_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    if result in ended:
                        return await result
                    if watching in ended:
                        self._is_headless = True
                        await watching
            finally:
                following.cancel()
                watching.cancel()
                if not result.done():
                    result.cancel()
                    self._cancel(reference)
            # It asks for more than any node that is left has: it runs nowhere, and asks again.

    async def _watch_head(self) -> None:
        if self._head is None:
            await asyncio.Event().wait()  # a Ray of our own ends with this process alone
        else:
            await self._head.watch()

    def _cancel(self, reference: Any) -> None:
        if not self._is_headless:
            self._ray.cancel(reference, force=True)

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    async def _known_node_bytes(self) -> int:
        """As `_largest_node_bytes`; what was known last while the head is silent, as asking it would block."""
        is_known = time.monotonic() - self._seen_at < NODES_S
        if is_known or self._head is None or await self._head.answers():
            return self._largest_node_bytes()
        return self._node_bytes

    def _largest_node_bytes(self) -> int:
        now = time.monotonic()
        if now - self._seen_at >= NODES_S:
            self._node_bytes, self._seen_at = largest_memory_bytes(self.resources, self._nodes()), now
        return self._node_bytes

    def close(self) -> None:
        self._leave()


def _start(ray: Any, resources: Resources) -> Callable[[], None]:
    """Start a Ray of our own and return what ends it."""
    arguments = {
        "num_cpus": resources.trainers * resources.cpus,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "job_config": _without_folders(ray),
    }
    return OwnRay.start(ray, arguments).close


def _join(ray: Any, address: str) -> Callable[[], None]:
    """Join a cluster, with the token of the user's environment, and return what leaves it."""
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, job_config=_without_folders(ray))
    except Exception as error:
        raise WorkersLost(f"the Ray cluster at {address} cannot be joined: {in_one_line(error)}") from error
    leave: Callable[[], None] = ray.shutdown
    return leave


def _without_folders(ray: Any) -> Any:
    """Settings of a job whose workers look for modules where every Python does.

    Ray would put the present folder and that of the program before the packages of each worker, unless the job brings a
    folder of its own.
    """
    config = ray.job_config.JobConfig()
    config._runtime_env_has_working_dir = lambda: True
    return config


def configure_ray() -> None:
    """Set what Ray reads from the environment, some of it only when it is imported."""
    # No usage statistics from Ray, no telemetry from onnxruntime; workers inherit both settings.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Ray would start a cluster of its own for a call without one, such as that of a stage which outlives its run.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # Under `uv run` Ray would send the present folder to each worker, as code, and let it make an environment of it.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Silences Ray's warning about GPU variables on CPU-only workers; we rely on neither behaviour.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray prints a paragraph about each dead worker to stdout, log_to_driver or not; this drops all of its lines.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    # Ray's default of 15 lets trainings stand still beside the work of others. What we measure ourselves needs
    # no niceness: workers pause meanwhile.
    os.environ.setdefault("RAY_worker_niceness", "0")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore SIGINT, so that processes started inside inherit this: only the driver handles Ctrl-C and shuts Ray down.
    SIGTERM does afterwards what it did before: Ray makes it print a stack of C++.

    Does nothing outside the main thread, where Python cannot set signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminates = signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminates)


def run_task(job: Job[R]) -> tuple[R, StageCost]:
    """Run the task of `job` and measure its CPU-seconds (all threads of this process) and its peak memory."""
    started_at, wall, cpu = time.time(), time.monotonic(), time.process_time()
    with peak_memory() as peak:
        result: R = job.work()
    spent, took = time.process_time() - cpu, time.monotonic() - wall
    worker = f"worker {socket.gethostname()}/{os.getpid()}"
    cost = StageCost(spent, versions(), started_at, took, worker)
    return result, replace(cost, backbone=kind_of(job).backbone, peak_memory_mb=peak.megabytes)


def _run_task_on(job: Job[R], resources: Resources, log: Path) -> tuple[R, StageCost]:
    if not resources.gpus:  # Ray leaves them visible; CUDA reads this variable at its first use, which comes later
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    take_back_umask()
    import ray

    with stderr_to(log), reporting(_mailbox(log), ray.util.get_node_ip_address()):
        return run_task(job)


def _mailbox(log: Path) -> Mailbox:
    """Where the worker of a try reports, which has this `log`, in any process that has joined Ray."""
    from ray.experimental import internal_kv

    return Mailbox(log.stem, internal_kv.internal_kv_get_gcs_client())


async def _follow(mailbox: Mailbox, work: Work, awaited: str) -> None:
    """Pass on what the worker of a stage reports, until cancelled. Before its first report it is `awaited`."""
    report = None
    try:
        with work.awaiting(awaited):
            while report is None:
                await asyncio.sleep(REPORT_S)
                report = await asyncio.to_thread(mailbox.read)
        while True:
            work.elsewhere, mailbox.node = report.activity, report.node
            await asyncio.sleep(REPORT_S)
            report = await asyncio.to_thread(mailbox.read) or report
    finally:
        work.elsewhere = Activity()
        asyncio.get_running_loop().run_in_executor(None, mailbox.remove)


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide the results of a stage."""
    installed = {}
    for name in VERSIONS_OF:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
