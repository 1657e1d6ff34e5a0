"""Whether a stage is repeated after it has lost its worker.

An exception that the stage itself raises is its result: it is not repeated. A worker that is lost without one says
little about the stage, so the stage is repeated, a number of times that depends on what ended the worker.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from vitsearch.core.stage import Stage
from vitsearch.errors import STAGE_WORDS, StageError, WorkerCrashed
from vitsearch.workers.crash_log import NativeCrash

NATIVE_CRASHES_ALLOWED = 1
"""Workers of a stage that a signal of their own code may end, such as SIGSEGV, before it fails: these come again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerLoss:
    """What ended a worker. `allowed` times the stage is repeated; one more fails it with `kind` and `reason`."""

    what: str
    allowed: int
    kind: str
    reason: str


KILLED = WorkerLoss(
    "a worker was lost",
    4,
    "crash",
    "workers were lost and left no trace: they were killed from outside, or by the kernel for lack of memory",
)
NODE_LOST = WorkerLoss(
    "a node was lost", 20, "node_lost", "nodes were lost, one after the other, while they ran this stage"
)
NO_MEMORY = WorkerLoss(
    "its node ran out of memory",
    4,
    "out_of_memory",
    "workers were ended because their node ran out of memory, though each asked for more than the one before; give the "
    "trainers larger nodes, or search smaller models or batches",
)


def without_memory(stage: Stage, error: str) -> StageError:
    """The failure of a stage whose worker lives and got no more memory; `error` is what it raised, in one line."""
    reason = f"its worker got no more memory ({error}); give the trainers more, or search smaller models or batches"
    return StageError(stage, NO_MEMORY.kind, reason)


class WorkerLosses:
    """The workers that one stage has lost so far."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._counted: Counter[WorkerLoss] = Counter()
        self._crashes: list[NativeCrash] = []

    def count(self, loss: WorkerLoss, error: Exception, node: str | None = None) -> None:
        """One more, on `node`, where that is known. Raises `StageError` if the stage is not repeated any
        more."""
        self._counted[loss] += 1
        lost, tries = self._counted[loss], loss.allowed + 1
        where = "" if node is None else f": {node}"
        again = "" if lost == tries else "; the stage runs again"
        logger.warning(
            "%s: %s%s (%d of %d)%s", STAGE_WORDS.get(self._stage, self._stage), loss.what, where, lost, tries, again
        )
        if lost == tries:
            raise StageError(self._stage, loss.kind, f"{lost} {loss.reason}") from error

    def count_crash(self, crash: NativeCrash, error: Exception) -> None:
        """One more worker that its own native code has ended. Raises `WorkerCrashed` if the stage is not
        repeated any more."""
        self._crashes.append(crash)
        signals = " and ".join(dict.fromkeys(each.signal for each in self._crashes))
        died, tries = len(self._crashes), NATIVE_CRASHES_ALLOWED + 1
        if died == tries:
            message = f"{tries} workers, one after the other, died in native code of {signals}; {crash.evidence}"
            raise WorkerCrashed(self._stage, "crash", message) from error
        logger.warning(
            "stage %s: a worker died of %s (%d of %d); %s", self._stage, signals, died, tries, crash.evidence
        )
