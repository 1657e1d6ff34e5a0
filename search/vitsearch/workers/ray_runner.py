"""Runners of stages: Ray workers, or this process for tests and benchmarks. The only module that imports Ray.

The driver itself talks to the sampler, and hands single stages to Ray. Trials share stages, wait
for devices outside any worker and survive the driver; a runner with one actor for each trial allows none of this.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from vitsearch.errors import ResourceError, StageError, StoreError, VitsearchError, WorkerCrashed, WorkersLost
from vitsearch.pipeline.jobs import Job
from vitsearch.storage.atomic_files import no_room
from vitsearch.storage.stage_cost import StageCost
from vitsearch.workers.crash_log import NativeCrash, stderr_to

R = TypeVar("R")
LOSSES_ALLOWED = 4
"""Workers of a stage that may be killed or lost with their node; each time it is repeated. One more fails the stage."""
NATIVE_CRASHES_ALLOWED = 1
"""The same for workers that a signal of their own code ended, such as SIGSEGV: these come again."""
CLUSTER_S = 60.0
"""A cluster has to answer within this time."""
JOIN = "import sys, ray; ray.init(address=sys.argv[1], logging_level='error', log_to_driver=False)"
OBJECT_STORE_BYTES = 100 * 2**20
KEEPALIVE_MS = 24 * 3600 * 1000
VERSIONS_OF = ("vitsearch", "torch", "timm", "torch-pruning", "onnx", "onnxruntime", "numpy")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """``cpus`` and ``gpus`` of each of ``trainers`` workers.

    ``gpus`` may be a fraction; ``auto`` divides the GPUs that Ray finds. ``cores`` pins the workers to these
    processors.
    """

    trainers: int
    cpus: int
    gpus: float | Literal["auto"]
    cores: tuple[int, ...] = ()


class InlineRunner:
    """Runs each stage in this process, one after another."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        return run_task(job)

    def close(self) -> None:
        pass


class RayRunner:
    """Runs each stage as a Ray task on ``cpus`` and ``gpus``, at most ``trainers`` at a time.

    ``logs`` is a folder, shared with the workers: stderr of a stage goes there and is kept if the stage crashes.
    ``address`` joins a running cluster, which must answer soon; ``None`` starts one on this machine, which ends with
    this process.
    ``resources`` holds the resolved number of GPUs. A worker with a GPU ends with its stage, so that it holds no
    GPU memory between stages. Raises :class:`ResourceError` when the cluster lacks what a trainer needs.
    """

    def __init__(self, resources: Resources, logs: Path, address: str | None = None) -> None:
        # No usage statistics from Ray, no telemetry from onnxruntime; workers inherit both settings.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        # Silences Ray's warning about GPU variables on CPU-only workers; we rely on neither behaviour.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Ray prints a paragraph about each dead worker to stdout, log_to_driver or not; this drops all of its lines.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
        # Ray's default of 15 lets trainings stand still beside the work of others. What we measure ourselves needs
        # no niceness: workers pause meanwhile.
        os.environ.setdefault("RAY_worker_niceness", "0")
        if address is None:
            # Ray pings its processes every 5 minutes, and kills a worker that is stopped for 7, as in a long soak. On
            # one machine a dead process is noticed without pings, because its connection closes.
            os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", str(KEEPALIVE_MS))
        if address:
            require_cluster(address)
        import ray  # after the settings above, and only for those who search

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
        with _ignoring_interrupts():
            ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
        try:
            there = ray.cluster_resources()
            resources = replace(resources, gpus=gpus_of(resources, there.get("GPU", 0.0)))
            require_resources(resources, there, address)
        except ResourceError:
            ray.shutdown()
            raise
        self.resources = resources
        remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)
        self._run_task = remote(_run_task_on)
        self._slots = asyncio.Semaphore(resources.trainers)
        self._logs, self._tries = logs, count(1)
        self._wanted = 0
        self._may_start = asyncio.Event()
        self._may_start.set()

    @property
    def busy(self) -> float:
        """The share of the trainers that run a stage, 0 to 1. Stages that wait for a trainer count too."""
        return min(1.0, self._wanted / self.resources.trainers)

    def hold(self) -> None:
        """Start no further stage until :meth:`release`."""
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
        losses, crashes = 0, list[NativeCrash]()
        while True:
            log = self._logs / f"{job.stage}-{os.getpid()}-{next(self._tries)}.log"
            crash = None
            try:
                async with self._slots:
                    result: tuple[R, StageCost] = await self._submit(job, log)
                return result
            except self._lost_worker as error:
                crash = NativeCrash.read(log)
                if crash is None:
                    losses += 1
                    self._refuse_losses(job, losses, error)
                else:
                    crashes.append(crash)
                    self._refuse_crashes(job, crashes, error)
            finally:
                if crash is None:
                    log.unlink(missing_ok=True)

    def _refuse_losses(self, job: Job[Any], losses: int, error: Exception) -> None:
        """Raise :class:`StageError` if the stage may not be repeated after this number of lost workers."""
        logger.warning("stage %s: a worker was lost (%d of %d)", job.stage, losses, LOSSES_ALLOWED + 1)
        if losses > LOSSES_ALLOWED:
            message = (
                f"{losses} workers were lost and left no trace: they were killed from outside, by the kernel for lack "
                "of memory, or with their node"
            )
            raise StageError(job.stage, "crash", message) from error

    def _refuse_crashes(self, job: Job[Any], crashes: list[NativeCrash], error: Exception) -> None:
        """Raise :class:`WorkerCrashed` if the stage may not be repeated after these crashes."""
        signals = " and ".join(dict.fromkeys(crash.signal for crash in crashes))
        tries, evidence = NATIVE_CRASHES_ALLOWED + 1, crashes[-1].evidence
        if len(crashes) == tries:
            message = f"{tries} workers, one after the other, died in native code of {signals}; {evidence}"
            raise WorkerCrashed(job.stage, "crash", message) from error
        logger.warning(
            "stage %s: a worker died of %s (%d of %d); %s", job.stage, signals, len(crashes), tries, evidence
        )

    async def _submit(self, job: Job[Any], log: Path) -> Any:
        while not self._may_start.is_set():
            await self._may_start.wait()
        reference = self._run_task.remote(job, self.resources, log)
        try:
            return await asyncio.wrap_future(reference.future())
        except asyncio.CancelledError:
            self._ray.cancel(reference, force=True)
            raise
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, VitsearchError):
                raise cause from error
            if full := no_room(cause):
                raise StoreError(f"{job.stage}: {full}; make room and run the same command again") from error
            raise StageError(job.stage, type(cause).__name__, str(cause)) from error
        except self._lost_worker:
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkersLost(f"Ray failed in stage {job.stage}: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        self._ray.shutdown()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore SIGINT, so that processes started inside inherit this: only the driver handles Ctrl-C and shuts Ray down.

    Does nothing outside the main thread, where Python cannot set signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def gpus_of(wanted: Resources, there: float) -> float:
    """GPUs for each trainer. ``auto``: one, or an equal share of one when there are more trainers than GPUs."""
    if wanted.gpus != "auto":
        return wanted.gpus
    gpus = int(there)
    return 1.0 / math.ceil(wanted.trainers / gpus) if gpus else 0.0


def require_cluster(address: str, wait_s: float = CLUSTER_S) -> None:
    """Raise :class:`ResourceError` unless a Ray cluster answers at ``address`` within ``wait_s`` seconds.

    Ray itself tries for a quarter of an hour and logs each attempt. So a process of its own tries first, which can be
    ended and whose output nobody sees.
    """
    where = f"no Ray cluster answers at {address} (--ray-address or RAY_ADDRESS)"
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "://" not in address:  # finds in a moment what is wrong most often
            socket.create_connection((host.strip("[]"), int(port)), wait_s).close()
        joined = subprocess.run([sys.executable, "-c", JOIN, address], capture_output=True, text=True, timeout=wait_s)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ResourceError(f"{where} within {wait_s:g} s") from None
    except OSError as error:
        raise ResourceError(f"{where}: {error.strerror or error}") from error
    if joined.returncode:
        raise ResourceError(f"{where}: {(joined.stderr.strip() or 'it gave no reason').splitlines()[-1]}")


def require_resources(wanted: Resources, there: Mapping[str, float], address: str | None) -> None:
    """Raise :class:`ResourceError` for resources that are not there; Ray would wait for them forever."""
    where = f"the Ray cluster at {address}" if address else "this machine"
    needs = {"CPU": float(wanted.cpus), "GPU": gpus_of(wanted, there.get("GPU", 0.0))}
    lacking = [f"{amount:g} {name}" for name, amount in needs.items() if amount > there.get(name, 0.0)]
    if lacking:
        raise ResourceError(
            f"resources: each trainer needs {' and '.join(lacking)}, but {where} has "
            f"{there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU"
        )


def run_task(job: Job[R]) -> tuple[R, StageCost]:
    """Run the task of ``job`` and measure its CPU-seconds (all threads of this process)."""
    from vitsearch.workers.tasks import TASKS  # torch and timm, which the driver does not need

    started_at, wall, cpu = time.time(), time.monotonic(), time.process_time()
    result: R = TASKS[type(job)](job)
    spent, took = time.process_time() - cpu, time.monotonic() - wall
    return result, StageCost(spent, versions(), started_at, took, f"worker {socket.gethostname()}/{os.getpid()}")


def _run_task_on(job: Job[R], resources: Resources, log: Path) -> tuple[R, StageCost]:
    if resources.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, resources.cores)
    if not resources.gpus:  # Ray leaves them visible; CUDA reads this variable at its first use, which comes later
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with stderr_to(log):
        return run_task(job)


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide the results of a stage."""
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
