"""Workers that train nothing."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.errors import StageError
from vitsearch.stages import BaseJob, Job, R_co, Runner, TrainJob
from vitsearch.storage.stage_cost import StageCost


@dataclass(frozen=True)
class UntrainedRunner:
    """Refuses jobs that take gradient steps. A finished study has all its weights; where their files are gone, a stage
    would make them again."""

    runner: Runner

    async def run(self, job: Job[R_co]) -> tuple[R_co, StageCost]:
        if isinstance(job, BaseJob | TrainJob):
            message = "the weights are gone, and nothing is trained here; 'vitsearch run' makes them again"
            raise StageError(job.stage, "not_trained", message)
        return await self.runner.run(job)

    def close(self) -> None:
        self.runner.close()
