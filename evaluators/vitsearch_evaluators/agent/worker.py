"""The one thread that measures. It alone starts children, one at a time, as long as it lives.

(The kernel kills a child when the *thread* that started it ends, so this must be a thread that
stays.) Nothing that a job does ends the loop.
"""

import contextlib
import functools
import logging
import os
import shutil
import sqlite3
import threading
from typing import Any, Callable, Optional, Sequence, Tuple

from vitsearch_evaluators import runtimes
from vitsearch_evaluators.agent import canary
from vitsearch_evaluators.agent.canary import Canary
from vitsearch_evaluators.agent.device import Device
from vitsearch_evaluators.agent.runtime_cache import RuntimeCache
from vitsearch_evaluators.base import processes
from vitsearch_evaluators.base.importing import IMPORTING
from vitsearch_evaluators.base.interruptions import DISK_FULL
from vitsearch_evaluators.conditions.environment import environment_id
from vitsearch_evaluators.conditions.job_context import JobContext
from vitsearch_evaluators.config import RUNTIME_DEFAULT, RuntimeConfig
from vitsearch_evaluators.errors import EnvironmentChanged, EvaluatorError, StorageFull
from vitsearch_evaluators.measure import memory_limit
from vitsearch_evaluators.measure.child_process import ChildDied, Interrupted, StopSignal
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.launch import Launch
from vitsearch_evaluators.measure.measure_job import measure_job
from vitsearch_evaluators.measure.power_phase import MeteredPhase
from vitsearch_evaluators.measure.runtime_check import check_runtime
from vitsearch_evaluators.queue.blob_store import BlobStore
from vitsearch_evaluators.queue.disk_wait import DiskWait, is_full
from vitsearch_evaluators.queue.queue import JobQueue
from vitsearch_evaluators.queue.rows import ClaimedJob
from vitsearch_evaluators.wire.device_info import RuntimeInfo
from vitsearch_evaluators.wire.job_status import Result
from vitsearch_evaluators.wire.measurement import Measurement

logger = logging.getLogger(__name__)

_IDLE_S = 60.0
_GOING_DOWN_S = 0.5


class Worker(threading.Thread):
    """Measures on `device` what `queue` holds; each job has a folder of its own in `folder`, which lies in the state.

    `on_failure` is called when the thread ends though nobody stopped it, and `failed` is set.
    Between jobs it looks at the `canary` when it is its turn.
    """

    def __init__(self, queue: JobQueue, store: BlobStore, folder: str, device: Device) -> None:
        super().__init__(name="measure", daemon=True)
        state, config = os.path.dirname(folder), device.config
        self.failed = False
        self.on_failure: Callable[[], None] = lambda: None
        self.canary = Canary(os.path.join(state, "canary.json"), config.canary)
        self._queue = queue
        self._store = store
        self._folder = folder
        self._device = device
        self._runtime_cache = RuntimeCache(os.path.join(state, "runtimes.json"), config)
        self._cache = os.path.join(state, "cache")
        self._power = MeteredPhase(config.power, device.system)
        self._stop_child = StopSignal()
        self._stopping = threading.Event()
        self._disk = DiskWait(store, self._stopping)
        queue.on_cancel_running = self._stop_child.set

    @property
    def problem(self) -> Optional[str]:
        """What it is waiting for, None when nothing is wrong."""
        return self._disk.problem

    @property
    def power_meter(self) -> Optional[str]:
        """The meter that was found last, None when there is none."""
        return self._power.meter

    def stop(self) -> None:
        """Kill the child, put its job back and end the thread."""
        self._stopping.set()
        self._stop_child.set()
        self._queue.wake()
        self.join()

    def run(self) -> None:
        try:
            self._run()
        except Exception:
            # An agent that went on without this thread would take jobs and keep their clients waiting for ever.
            logger.exception("the thread that measures cannot go on")
            self.failed = True
            self.on_failure()

    def _run(self) -> None:
        processes.adopt_orphans()
        self._device.memory_limit = memory_limit.set_up(self._device.config.limits.memory_mb, self._device.system)
        self._clean()
        try:
            self._check_runtimes()
        except Interrupted:
            return
        rested = False
        while not self._stopping.is_set():
            job = self._disk.require_room(lambda: self._queue.claim(_IDLE_S))
            if job is not None and not self._stopping.is_set():
                self._process(job)
            elif job is not None:
                self._disk.require_room(functools.partial(self._queue.release, job.id))
            elif not rested:
                processes.give_memory_back()
            rested = job is None
            if not self._stopping.is_set() and self.canary.due(idle=job is None):
                self._look_at_canary()

    def _clean(self) -> None:
        """Remove the folders of jobs that ended while the agent was killed."""
        active = {status.id for status in self._disk.require_room(self._queue.active) or ()}
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, exist_ok=True)
            for name in set(os.listdir(self._folder)) - active:
                shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)

    def _check_runtimes(self) -> None:
        self._device.runtimes = self._runtime_cache.load() or self._ask_runtimes()
        absent = self._power.unavailable_reason()
        logger.info("power is read from %s", self._power.meter) if absent is None else logger.info("%s", absent)
        self._device.ready.set()

    def _ask_runtimes(self) -> Tuple[RuntimeInfo, ...]:
        found = []
        try:
            for name in runtimes.table():
                found.append(self._check_one(name))
        except (EvaluatorError, OSError):
            logger.exception("the runtimes cannot be checked")
        else:
            self._runtime_cache.keep(tuple(found))
        return tuple(found)

    def _check_one(self, name: str) -> RuntimeInfo:
        while True:
            try:
                job_folder = JobFolder(self._folder, self._stop_child, memory_limit=self._device.memory_limit)
                return check_runtime(name, job_folder, self._programs(name), self._device.system)
            except (StorageFull, OSError) as error:
                if not is_full(error):
                    raise
                self._disk.await_room()
                if self._stopping.is_set():
                    raise Interrupted from error

    def _programs(self, name: str) -> RuntimeConfig:
        return self._device.config.runtimes.get(name, RUNTIME_DEFAULT)

    def _launch(self, name: str) -> Launch:
        info = next((runtime for runtime in self._device.runtimes if runtime.name == name), None)
        return Launch(cache=self._cache) if info is None else Launch.of(info, self._cache)

    def _process(self, job: ClaimedJob) -> None:
        folder = os.path.join(self._folder, job.id)
        self._disk.require_room(self._outcome(job, folder))
        if not self._stopping.is_set():
            # A cancellation that came too late must not hit the next job.
            self._stop_child.clear()
            if self._disk.require_room(lambda: self._queue.get(job.id).final):
                shutil.rmtree(folder, ignore_errors=True)

    def _outcome(self, job: ClaimedJob, folder: str) -> Callable[[], None]:
        """Measure, and return how to write down what came of it."""
        try:
            result = self._work(job, folder)
        except Interrupted:
            return lambda: self._queue.release(job.id)
        except ChildDied as died:
            # When a whole service or board goes down, children may hear it before us: that is no interruption.
            if self._stopping.wait(_GOING_DOWN_S if died.signal_name == "SIGTERM" else 0.0):
                return lambda: self._queue.release(job.id)
            death, details = died.signal_name, died.details
            return lambda: self._queue.died(job.id, death, details)
        except Exception as error:
            if is_full(error):
                self._disk.await_room()
                return lambda: self._queue.died(job.id, DISK_FULL, {})
            if isinstance(error, EvaluatorError):
                failure = error
            else:
                logger.exception("job %s", job.id)
                failure = EvaluatorError("internal", f"{type(error).__name__}: {error}")
            return lambda: self._queue.fail(job.id, failure)
        if not isinstance(result, Measurement):
            return functools.partial(self._queue.finish, job.id, result)
        if self.canary.quarantined is not None:
            result = result._replace(flags=result.flags + (canary.FLAG,))
        return functools.partial(self._finish, job.id, result)

    def _finish(self, identifier: str, measurement: Measurement) -> None:
        self._queue.finish(identifier, measurement)
        self.canary.finished(identifier)

    def _look_at_canary(self) -> None:
        """One look, or two, whoever waits: then it is the next job's turn."""
        environment = environment_id(self._device.environment())
        names = [runtime.name for runtime in self._device.runtimes if runtime.available]
        folder = os.path.join(self._folder, "canary")
        device = self._device
        place = canary.Place(folder, device.identity.device_id, environment, device.system, device.memory_limit)
        try:
            with device.undisturbed():
                self.canary.look(
                    environment, lambda: canary.measure(names, place, self._stop_child, self._launch), self._distrust
                )
        except Interrupted:
            return
        except Exception:
            logger.exception("the canary cannot be measured")
            self.canary.skip()

    def _distrust(self, identifiers: Sequence[str]) -> None:
        self._disk.require_room(functools.partial(self._queue.flag, identifiers, canary.FLAG))
        if self._stopping.is_set():
            raise Interrupted  # perhaps not written: the next life looks again

    def _tell(self, identifier: str, what: str, **details: Any) -> None:
        """Let those who watch the job know; what a full disk does not take is not worth waiting for."""
        with contextlib.suppress(sqlite3.Error):
            self._queue.tell(identifier, what, **details)

    def _work(self, job: ClaimedJob, folder: str) -> Result:
        environment = environment_id(self._device.environment())
        if job.environment not in (None, environment):
            raise EnvironmentChanged(
                f"the job is for the environment {job.environment}, the device is now in {environment}",
                {"wanted": job.environment, "found": environment},
            )
        os.makedirs(folder, exist_ok=True)
        for blob in job.spec.manifest:
            self._store.link(blob.sha256, os.path.join(folder, blob.name))
        slowdown = None if self._device.config.emulation is None else self._device.config.emulation.slowdown
        device_id = self._device.identity.device_id
        context = JobContext(job.id, device_id, environment, job.attempts, job.queue_s, slowdown)
        on_start = functools.partial(self._queue.started, job.id)
        launch, limit = self._launch(job.spec.runtime), self._device.memory_limit
        job_folder = JobFolder(folder, self._stop_child, on_start, launch, limit)
        with self._device.undisturbed():
            # Each is imported when it is needed: most agents measure, and are small.
            if job.spec.kind == "accuracy":
                with IMPORTING:
                    from vitsearch_evaluators.measure import accuracy_job
                return accuracy_job.measure_accuracy(job.spec, context, job_folder, self._store.adopt)
            if job.spec.kind == "peaks":
                with IMPORTING:
                    from vitsearch_evaluators.measure import peaks_job
                return peaks_job.measure_peaks(job.spec, context, job_folder, self._device.system)
            return self._measure(job, context, job_folder)

    def _measure(self, job: ClaimedJob, context: JobContext, job_folder: JobFolder) -> Measurement:
        uses_before = self._store.uses
        tell = functools.partial(self._tell, job.id)
        measurement = measure_job(job.spec, context, job_folder, self._power, self._device.system, tell)
        if self._store.uses > uses_before:
            return measurement._replace(flags=measurement.flags + ("concurrent_io",))
        return measurement
