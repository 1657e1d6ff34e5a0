"""The one thread that measures. It alone starts children, one at a time, as long as it lives.

(The kernel kills a child when the *thread* that started it ends, so this must be a thread that
stays.) Nothing that a job does ends the loop.
"""

import logging
import os
import shutil
import sqlite3
import threading
from typing import Any, Dict, Optional, Tuple

from vitsearch_evaluators import procs, runtimes
from vitsearch_evaluators.child import Interrupted, StopSignal
from vitsearch_evaluators.config import NO_CONFIG, AgentConfig
from vitsearch_evaluators.emulation import described
from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.execute import Conditions, execute, probe_runtime
from vitsearch_evaluators.fingerprint import DeviceIdentity, environment_id, fingerprint
from vitsearch_evaluators.jobs import ClaimedJob, JobQueue
from vitsearch_evaluators.records import Measurement, RuntimeInfo
from vitsearch_evaluators.store import BlobStore
from vitsearch_evaluators.system import THIS_MACHINE, System
from vitsearch_evaluators.throttling import kernel_brakes

logger = logging.getLogger(__name__)

_IDLE_S = 60.0


class Worker(threading.Thread):
    """`ready` is set when the runtimes were probed; from then on `runtimes` does not change."""

    def __init__(
        self,
        queue: JobQueue,
        store: BlobStore,
        identity: DeviceIdentity,
        folder: str,
        version: str,
        config: AgentConfig = NO_CONFIG,
        system: System = THIS_MACHINE,
    ) -> None:
        super().__init__(name="measure", daemon=True)
        self.runtimes: Tuple[RuntimeInfo, ...] = ()
        self.ready = threading.Event()
        self._queue = queue
        self._store = store
        self._identity = identity
        self._folder = folder
        self._version = version
        self._emulation = config.emulation
        self._system = system
        self._unbraked: Optional[Dict[str, Any]] = None
        self._stop_child = StopSignal()
        self._stopping = False
        queue.on_cancel_running = self._stop_child.set

    def environment(self) -> Dict[str, Any]:
        """Return the fingerprint as it is now: a governor or an affinity may have changed.

        While the kernel brakes a hot device, limits that are settings otherwise are lower; they are
        then as they were before.
        """
        if self._unbraked is not None and kernel_brakes(self._system).active:
            return self._unbraked
        found = fingerprint(self._version, self.runtimes, self._system)
        if self._emulation is not None:
            found["emulation"] = described(self._emulation)
        self._unbraked = found if self.ready.is_set() else None
        return found

    def stop(self) -> None:
        """Kill the child, put its job back and end the thread."""
        self._stopping = True
        self._stop_child.set()
        self._queue.wake()
        self.join()

    def run(self) -> None:
        procs.adopt_orphans()
        self._clean()
        try:
            self._probe()
        except Interrupted:
            return
        while not self._stopping:
            try:
                job = self._queue.claim(_IDLE_S)
                if job is not None and not self._stopping:
                    self._process(job)
                elif job is not None:
                    self._queue.release(job.id)
            except sqlite3.Error:
                logger.exception("the queue cannot be written; trying again")
                if self._stop_child.is_set():
                    return
                threading.Event().wait(1.0)

    def _clean(self) -> None:
        """Remove the folders of jobs that ended while the agent was killed."""
        os.makedirs(self._folder, exist_ok=True)
        active = {status.id for status in self._queue.active()}
        for name in set(os.listdir(self._folder)) - active:
            shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)

    def _probe(self) -> None:
        found = []
        try:
            for name in runtimes.table():
                found.append(probe_runtime(name, self._folder, self._stop_child))
        except (EvaluatorError, OSError):
            logger.exception("the runtimes cannot be probed")
        self.runtimes = tuple(found)
        self.ready.set()

    def _process(self, job: ClaimedJob) -> None:
        folder = os.path.join(self._folder, job.id)
        failure: Optional[EvaluatorError] = None
        try:
            measurement = self._measure(job, folder)
        except Interrupted:
            self._queue.release(job.id)
        except EvaluatorError as error:
            failure = error
        except Exception as error:
            logger.exception("job %s", job.id)
            failure = EvaluatorError("internal", f"{type(error).__name__}: {error}")
        else:
            self._queue.finish(job.id, measurement)
        if failure is not None:
            self._queue.fail(job.id, failure)
        if not self._stopping:
            # A cancellation that came too late must not hit the next job.
            self._stop_child.clear()
            shutil.rmtree(folder, ignore_errors=True)

    def _measure(self, job: ClaimedJob, folder: str) -> Measurement:
        os.makedirs(folder, exist_ok=True)
        for blob in job.spec.manifest:
            self._store.link(blob.sha256, os.path.join(folder, blob.name))
        conditions = Conditions(
            job.id,
            self._identity.device_id,
            environment_id(self.environment()),
            job.attempts,
            job.queue_s,
            None if self._emulation is None else self._emulation.slowdown,
        )
        chunks_before = self._store.chunks_received
        measurement = execute(
            job.spec,
            os.path.join(folder, "model.onnx"),
            folder,
            conditions,
            self._stop_child,
            lambda process: self._queue.started(job.id, process),
            system=self._system,
        )
        if self._store.chunks_received > chunks_before:
            return measurement._replace(flags=measurement.flags + ("concurrent_io",))
        return measurement
