"""The protocol of what runs jobs: Ray workers, or this process (`vitsearch.workers`)."""

from __future__ import annotations

from typing import Protocol, TypeVar

from vitsearch.pipeline.jobs import Job
from vitsearch.storage.stage_cost import StageCost

R = TypeVar("R")


class Runner(Protocol):
    """Guarantees: a stage's own failure arrives as `StageError`, and as `WorkerCrashed` if it ended its
    workers; a worker that something else killed is not a failure."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]: ...

    def close(self) -> None: ...
