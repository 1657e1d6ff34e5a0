"""The measuring thread. Only this thread starts children, one at a time.

The kernel kills a child when the *thread* that started it ends, so this thread must stay alive: nothing that a job
does ends its loop.
"""

import contextlib
import functools
import logging
import os
import sqlite3
import threading
from typing import Any, Callable, ContextManager, Dict, Iterator, Optional, Sequence, Tuple

from vitsearch_agent import runtimes
from vitsearch_agent.base import inherited, locks, processes
from vitsearch_agent.base.interruptions import DISK_FULL
from vitsearch_agent.base.plain_files import remove_tree
from vitsearch_agent.base.plugins import IMPORTING
from vitsearch_agent.conditions.environment import environment_id
from vitsearch_agent.conditions.monitor import ignore_event
from vitsearch_agent.config import RUNTIME_DEFAULT, RuntimeConfig
from vitsearch_agent.errors import AgentError, EnvironmentChanged, StorageFull
from vitsearch_agent.measure import memory_limit
from vitsearch_agent.measure.child_checks import check_restrictions, check_runtime
from vitsearch_agent.measure.child_process import ChildDied, Interrupted, StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import Isolation, JobFolder
from vitsearch_agent.measure.launch import THIS_PYTHON, Launch
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.measure.power_phase import MeteredPhase
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.queue.blob_store import BlobStore
from vitsearch_agent.queue.disk_wait import DiskWait, is_full
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.queue.job_rows import ClaimedJob
from vitsearch_agent.server import canary, canary_measurement, restrictions
from vitsearch_agent.server.canary import Canary
from vitsearch_agent.server.device import Device
from vitsearch_agent.server.runtime_cache import RuntimeCache
from vitsearch_agent.wire.device_info import RuntimeInfo
from vitsearch_agent.wire.job_status import Result
from vitsearch_agent.wire.measurement import Measurement

logger = logging.getLogger(__name__)

CACHES_KEPT = 16
"""Of the models that a runtime has run."""
_IDLE_S = 60.0
_SHUTDOWN_S = 0.5


class Worker(threading.Thread):
    """Runs the jobs of `queue` on `device`; each has its own folder in `folder`, which is in the state folder.

    If the thread fails, it sets `failed` and calls `on_failure`. Between jobs it measures the `canary` when it is due.
    """

    def __init__(
        self, queue: JobQueue, store: BlobStore, folder: str, device: Device, references: ReferenceStore
    ) -> None:
        super().__init__(name="measure", daemon=True)
        state, config = os.path.dirname(folder), device.config
        self._state = state
        self._isolation = Isolation(tuple(map(os.path.realpath, (state, *device.secrets))))
        self.failed = False
        self.on_failure: Callable[[], None] = lambda: None
        self.canary = Canary(os.path.join(state, "canary.json"), config.canary)
        self._queue = queue
        self._store = store
        self._folder = folder
        self._device = device
        self._references = references
        self._runtime_cache = RuntimeCache(os.path.join(state, "runtimes.json"), config)
        self._cache = os.path.join(state, "cache")
        self._power = MeteredPhase(config.power, device.system)
        self._stop_child = StopSignal()
        self._parents = WarmParents(device.system)
        self._passes_on = inherited.Inherited()
        self._stopping = threading.Event()
        self._disk = DiskWait(store, self._stopping)
        self._measuring_lock = locks.measuring_lock_path()
        queue.on_cancel_running = self._stop_child.set

    @property
    def problem(self) -> Optional[str]:
        """Why the worker waits, None if there is no problem."""
        return self._disk.problem

    @property
    def power_meter(self) -> Optional[str]:
        """The meter found last, None if there is none."""
        return self._power.meter

    def stop(self) -> None:
        """Kill the child, queue its job again and end the thread."""
        self._stopping.set()
        self._stop_child.set()
        self._queue.wake()
        self.join()
        if not self.failed:
            self._runtime_cache.forget()

    def run(self) -> None:
        try:
            self._run()
        except Exception:
            # Without this thread the agent would accept jobs and let their clients wait for ever.
            logger.exception("the measuring thread failed")
            self.failed = True
            self.on_failure()
        finally:
            self._parents.close()

    def _run(self) -> None:
        processes.adopt_orphans()
        self._passes_on = inherited.read()
        self._device.memory_limit = memory_limit.set_up(self._device.config.limits.memory_mb, self._device.system)
        self._clean()
        try:
            self._check_runtimes()
        except Interrupted:
            return
        is_idle = False
        while not self._stopping.is_set():
            job = self._disk.retry(lambda: self._queue.claim(_IDLE_S))
            if job is not None and not self._stopping.is_set():
                self._process(job)
            elif job is not None:
                self._disk.retry(functools.partial(self._queue.release, job.id))
            elif not is_idle:
                self._parents.close()
                processes.give_memory_back()
            is_idle = job is None
            if not self._stopping.is_set() and self.canary.due(idle=job is None):
                self._check_canary()

    def _clean(self) -> None:
        """Remove the folders of jobs that are no longer active."""
        active = {status.id for status in self._disk.retry(self._queue.active) or ()}
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, exist_ok=True)
            os.makedirs(self._cache, mode=0o700, exist_ok=True)
            for name in set(os.listdir(self._folder)) - active:
                remove_tree(os.path.join(self._folder, name))

    def _check_runtimes(self) -> None:
        self._device.restrictions = check_restrictions(self._job_folder(self._folder))
        restrictions.keep(self._state, self._device.restrictions)
        self._device.set_runtimes(self._runtime_cache.load() or self._ask_runtimes())
        reason = self._power.unavailable_reason()
        logger.info("power is read from %s", self._power.meter) if reason is None else logger.info("%s", reason)
        self._device.ready.set()

    def _ask_runtimes(self) -> Tuple[RuntimeInfo, ...]:
        infos = []
        try:
            for name in runtimes.table():
                infos.append(self._check_one(name))
        except (AgentError, OSError):
            logger.exception("the runtimes cannot be checked")
        else:
            self._runtime_cache.keep(tuple(infos))
        return tuple(infos)

    def _check_one(self, name: str) -> RuntimeInfo:
        while True:
            try:
                job_folder = self._job_folder(self._folder)
                return check_runtime(name, job_folder, self._programs(name), self._device.system)
            except (StorageFull, OSError) as error:
                if not is_full(error):
                    raise
                self._disk.await_room()
                if self._stopping.is_set():
                    raise Interrupted from error

    def _programs(self, name: str) -> RuntimeConfig:
        return self._device.config.runtimes.get(name, RUNTIME_DEFAULT)

    def _launch(self, name: str, artifact: str) -> Launch:
        info = self._device.runtime(name)
        launch = Launch() if info is None else Launch.of(info, self._cache_of(name, artifact))
        return launch.allowing(self._programs(name))

    def _cache_of(self, name: str, artifact: str) -> str:
        """The cache of a runtime for a model, which must not change what was built from another; the caches that were
        not used for the longest time are removed."""
        caches = os.path.join(self._cache, name)
        folder = os.path.join(caches, artifact)
        with contextlib.suppress(OSError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            os.utime(folder, None)
            used = sorted(os.scandir(caches), key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)
            for entry in used[:-CACHES_KEPT]:
                remove_tree(entry.path)
        return folder

    def _job_folder(
        self, folder: str, on_start: Optional[Callable[..., None]] = None, launch: Launch = THIS_PYTHON
    ) -> JobFolder:
        """Return a folder whose children have the limits and the restrictions of this device."""
        limit = self._device.memory_limit
        return JobFolder(
            folder, self._stop_child, on_start, launch, limit, self._isolation, self._parents, self._passes_on
        )

    def _process(self, job: ClaimedJob) -> None:
        folder = os.path.join(self._folder, job.id)
        self._disk.retry(self._outcome(job, folder))
        if not self._stopping.is_set():
            # A cancellation that came too late must not affect the next job.
            self._stop_child.clear()
            if self._disk.retry(lambda: self._queue.get(job.id).final):
                remove_tree(folder)

    def _outcome(self, job: ClaimedJob, folder: str) -> Callable[[], None]:
        """Run a job, and return the call that stores its outcome in the queue."""
        try:
            result = self._work(job, folder)
        except Interrupted:
            return lambda: self._queue.release(job.id)
        except ChildDied as died:
            # At the stop of a whole service or device the children may get the signal first: not an interruption.
            if self._stopping.wait(_SHUTDOWN_S if died.signal_name == "SIGTERM" else 0.0):
                return lambda: self._queue.release(job.id)
            cause, details = died.signal_name, died.details
            return lambda: self._queue.interrupted(job.id, cause, details)
        except Exception as error:
            if is_full(error):
                self._disk.await_room()
                return lambda: self._queue.interrupted(job.id, DISK_FULL, {})
            if isinstance(error, AgentError):
                failure = error
            else:
                logger.exception("job %s", job.id)
                failure = AgentError("internal", f"{type(error).__name__}: {error}")
            return lambda: self._queue.fail(job.id, failure)
        if not isinstance(result, Measurement):
            return functools.partial(self._queue.finish, job.id, result)
        if self.canary.quarantined is not None:
            result = result._replace(flags=result.flags + (canary.FLAG,))
        return functools.partial(self._finish, job.id, result)

    def _finish(self, identifier: str, measurement: Measurement) -> None:
        self._queue.finish(identifier, measurement)
        self.canary.job_done(identifier)

    def _check_canary(self) -> None:
        """Check the canary once, which measures it at most twice; waiting jobs come afterwards."""
        before = self._device.environment()
        environment = environment_id(before)
        versions = {runtime.name: runtime.version for runtime in self._device.runtimes if runtime.available}
        folder = os.path.join(self._folder, "canary")
        device = self._device
        context = canary_measurement.CanaryContext(
            folder,
            device.identity.device_id,
            environment,
            device.system,
            self._references,
            device.memory_limit,
            self._isolation,
            versions,
        )

        def launch_of(name: str) -> Launch:
            return self._launch(name, "canary")

        def measure() -> canary_measurement.CanaryTimes:
            with self._measuring("its reference model"), self._in_one_environment(before):
                return canary_measurement.measure(tuple(versions), context, self._stop_child, launch_of)

        try:
            self.canary.check(environment, measure, self._flag_unverified)
        except Interrupted:
            return
        except Exception:
            logger.exception("the canary cannot be measured")
            self.canary.postpone()

    def _flag_unverified(self, identifiers: Sequence[str]) -> None:
        self._disk.retry(functools.partial(self._queue.flag, identifiers, canary.FLAG))
        if self._stopping.is_set():
            raise Interrupted  # perhaps not written: the next agent checks again

    def _report(self, identifier: str, what: str, **details: Any) -> None:
        """Add an event for the clients that watch the job; on a full disk it is lost, without a wait."""
        with contextlib.suppress(sqlite3.Error):
            self._queue.report(identifier, what, **details)

    def _work(self, job: ClaimedJob, folder: str) -> Result:
        before = self._device.environment()
        environment = environment_id(before)
        if job.environment not in (None, environment):
            raise EnvironmentChanged(
                f"the job is for the environment {job.environment}; the device is now in {environment}",
                {"wanted": job.environment, "actual": environment},
            )
        children_folder = os.path.join(folder, "children")  # they may write there; beside it the agent keeps records
        os.makedirs(children_folder, exist_ok=True)
        for blob in job.spec.manifest:
            self._store.copy(blob.sha256, os.path.join(children_folder, blob.name))
        device_id = self._device.identity.device_id
        info, slowdown = self._device.runtime(job.spec.runtime), self._device.slowdown
        version = None if info is None else info.version
        context = JobContext(job.id, device_id, environment, job.attempts, job.queue_s, slowdown, version)
        on_start = functools.partial(self._queue.started, job.id)
        launch = self._launch(job.spec.runtime, job.spec.artifact)
        job_folder = self._job_folder(children_folder, on_start, launch)._replace(kept=folder)
        work = f"a model of {self._queue.get(job.id).owner.study}"
        with self._measuring(work, functools.partial(self._report, job.id)), self._in_one_environment(before):
            # Imported only if needed: most agents only measure, and their memory stays small.
            if job.spec.kind == "outputs":
                with IMPORTING:
                    from vitsearch_agent.measure import outputs_job
                return outputs_job.measure_outputs(job.spec, context, job_folder, self._store.adopt)
            if job.spec.kind == "peaks":
                with IMPORTING:
                    from vitsearch_agent.measure import peaks_job
                return peaks_job.measure_peaks(job.spec, context, job_folder, self._device.system)
            return self._measure(job, context, job_folder)

    @contextlib.contextmanager
    def _in_one_environment(self, before: Dict[str, Any]) -> Iterator[None]:
        """Do not read the settings within the block; EnvironmentChanged if they then differ from those `before`.

        A block that raises EnvironmentChanged itself ran an upgraded runtime: parents that hold the old one end, and
        the runtimes are asked again, before anybody asks for the environment.
        """
        try:
            with self._device.undisturbed():
                yield
        except EnvironmentChanged:
            self._parents.close()
            self._device.set_runtimes(self._ask_runtimes())
            self._device.refuse_change(before)
            raise
        self._device.refuse_change(before)

    def _measuring(self, work: str, report: Callable[..., None] = ignore_event) -> ContextManager[None]:
        """Take turns with what else this user measures on this machine; `report` gets the process that it waits for."""

        def waits(other: locks.Holder) -> None:
            logger.info("waiting for pid %d, which measures %s", other.pid, other.work)
            report("waiting", pid=other.pid, measures=other.work)

        return locks.measuring_alone(self._measuring_lock, work, self._stop_child.is_set, waits)

    def _measure(self, job: ClaimedJob, context: JobContext, job_folder: JobFolder) -> Measurement:
        uses_before = self._store.uses
        report = functools.partial(self._report, job.id)
        measurement = measure_job(
            job.spec, context, job_folder, self._power, self._device.system, report, self._references
        )
        if self._store.uses > uses_before:
            return measurement._replace(flags=measurement.flags + ("concurrent_io",))
        return measurement
