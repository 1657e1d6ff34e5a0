"""What every stage is made with, and where its result is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vitsearch.core.plan import Plan
from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.jobs import FileJob, Job, Runner, Workspace, backbone_of
from vitsearch.pipeline.progress import Progress, current_trial
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.pipeline.stage_clock import StageClock
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch.storage.stage_cost import StageCost

R = TypeVar("R")


@dataclass(frozen=True)
class StageContext:
    """The tools of all stages of one run."""

    workspace: Workspace
    ledger: Ledger
    single_flight: SingleFlight
    runner: Runner
    progress: Progress
    clock: StageClock

    @classmethod
    def of(
        cls, workspace: Workspace, ledger: Ledger, runner: Runner, driver: DriverId, progress: Progress
    ) -> StageContext:
        single_flight = SingleFlight(ledger, workspace.store, driver)
        return cls(workspace, ledger, single_flight, runner, progress, StageClock())

    def start_trial(self, number: int, plan: Plan) -> None:
        """The running task, and every task that it starts from here on, works for this trial."""
        current_trial.set(number)
        self.progress.started(number, plan)

    @contextmanager
    def stage(self, stage: Stage, backbone: str = "") -> Iterator[None]:
        """A stage is under way inside this block: of the running trial, else of a backbone."""
        trial = current_trial.get()
        subject = backbone if trial is None or stage is Stage.BASE else f"trial {trial}"
        with self.progress.stage(stage), self.clock.running(stage, subject):
            yield

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        with self.stage(job.stage, backbone_of(job)):
            result, cost = await self.runner.run(job)
        self.ledger.costs.note(job.stage, cost)
        return result, cost

    async def file(self, key: str, job: FileJob) -> str:
        """The digest of the file that `job` makes, once for every trial and every rung."""

        async def make() -> tuple[ArtifactRow, StageCost]:
            stored, cost = await self.run(job)
            where = self.workspace.store.address
            return ArtifactRow(key, job.stage, stored.sha256, stored.size_bytes, where, {}), cost

        row = await self.single_flight.get(StageKey(job.stage, key), lambda: self.ledger.artifact(key), make)
        return row.sha256
