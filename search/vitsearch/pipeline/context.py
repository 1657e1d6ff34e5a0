"""What every stage is made with, and where its result is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vitsearch.core.plan import Plan
from vitsearch.core.stage import Stage, StageKey
from vitsearch.pipeline.progress import Progress, current_trial
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.pipeline.stage_clock import StageClock
from vitsearch.stages import Job, Runner, Stored, Workspace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import ArtifactRow, Ledger, Row
from vitsearch.storage.stage_cost import StageCost

R = TypeVar("R")
StoredRow = TypeVar("StoredRow", bound=Row)


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
        with self.stage(job.stage, job.backbone):
            result, cost = await self.runner.run(job)
        self.ledger.costs.note(job.stage, cost)
        return result, cost

    async def once(
        self,
        key: StageKey,
        find: Callable[[], StoredRow | None],
        job: Callable[[], Awaitable[Job[R]]],
        row: Callable[[R], StoredRow],
    ) -> StoredRow:
        """The row of a stage: the stored one, else of the result of its job, which is made for the first that asks.

        Args:
            key: Of the stage.
            find: Gives the row of the ledger, if it is there.
            job: Makes the job, with what it needs of other stages.
            row: What the ledger keeps of the result.

        Returns:
            The row, which is in the ledger.

        Raises:
            StageError: The stage cannot be made.
        """

        async def make() -> tuple[StoredRow, StageCost]:
            result, cost = await self.run(await job())
            return row(result), cost

        return await self.single_flight.get(key, find, make)

    async def file(self, key: str, job: Job[Stored]) -> str:
        """The digest of the file that `job` makes, once for every trial and every rung."""

        async def needs_nothing() -> Job[Stored]:
            return job

        def kept(stored: Stored) -> ArtifactRow:
            return stored.row(key, job.stage, self.workspace.store.address)

        row = await self.once(StageKey(job.stage, key), lambda: self.ledger.artifact(key), needs_nothing, kept)
        return row.sha256
