"""What stages are made with, and where what they made is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from vitsearch.core.progress import Progress
from vitsearch.pipeline.jobs import FileJob, Job, Workspace
from vitsearch.pipeline.runner import Runner
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch.storage.stage_cost import StageCost

R = TypeVar("R")


@dataclass(frozen=True)
class StageContext:
    """One per run."""

    workspace: Workspace
    ledger: Ledger
    single_flight: SingleFlight
    runner: Runner
    progress: Progress

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        with self.progress.stage(job.make):
            return await self.runner.run(job)

    async def file(self, key: str, job: FileJob) -> str:
        """The file that ``job`` makes, made once for every trial and every rung."""

        async def make() -> tuple[ArtifactRow, StageCost]:
            stored, made = await self.run(job)
            where = str(self.workspace.store.root)
            return ArtifactRow(key, job.kind, stored.sha256, stored.size_bytes, where, {}), made

        row = await self.single_flight.get(f"{job.kind}:{key}", lambda: self.ledger.artifact(key), make)
        return row.sha256
