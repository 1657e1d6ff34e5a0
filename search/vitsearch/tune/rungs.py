"""One trial of Tune: a plan that takes the flow of a run (`search/trial.py`) in this process, a rung for each step.

To the study it is a run of its own: the database says who makes which stage, all of a machine share one agent, and
models are measured one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import metrics_on, split
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.devices.agent_device import refuse_unmetered
from vitsearch.devices.deployable import deployable_on
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import StageError, StoreError, VitsearchError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Silent
from vitsearch.search import acquisition, verdicts
from vitsearch.search.acquisition import ExpectedFront
from vitsearch.search.finished_session import Workplace
from vitsearch.search.form_finder import FormFinder
from vitsearch.search.goals import FITS
from vitsearch.search.open_device import cores_kept_free, open_device
from vitsearch.search.plan_space import plan_space
from vitsearch.search.posterior import Posterior
from vitsearch.search.session import Session
from vitsearch.search.study_folders import StudyFolders
from vitsearch.search.trial import run_plan
from vitsearch.search.unpruned_models import UnprunedModels
from vitsearch.space import SearchSpace
from vitsearch.stages import Job
from vitsearch.storage.atomic_files import no_room
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.storage.stores import adopt_store
from vitsearch.study.file_forms import FileForms
from vitsearch.study.identity import adopt_fleet
from vitsearch.study.sampling import Unpruned
from vitsearch.study.study import Study
from vitsearch.tune.knobs import ConfigSpace
from vitsearch.workers.ray_runner import run_task

R = TypeVar("R")
NEXT_STEP = "the next step of Tune goes on"

logger = logging.getLogger(__name__)


class StepScheduler:
    """The scheduler of a plan for one step of Tune, which decides itself how far a plan goes.

    Promotes it `promotions` times, through what earlier steps have made. `reached` is how far it is then; None
    where it has ended before. `least_gain` is that of the space file.
    """

    skips_trained = False  # Tune compares plans rung by rung, and what is trained is looked up

    def __init__(self, posterior: Posterior, promotions: int, least_gain: float) -> None:
        self.posterior = posterior
        self.least_gain = least_gain
        self.reached: RunningTrial | None = None
        self._promotions = promotions

    def duplicate_of(self, number: int, plan: Plan, keys: Keys) -> Record | None:
        """None: Tune has a result for each of its trials."""
        return None

    def judge_screen(self, trial: RunningTrial) -> Record | None:
        """Only what breaks a limit ends: whether a dominated plan does is up to Tune."""
        verdict = verdicts.judge_screen(self.posterior, trial)
        return verdict if verdict is not None and verdict.outcome == "infeasible" else None

    def interval_decides(self, trial: RunningTrial) -> bool:
        return trial.interval_decides(lambda end: self.judge_screen(end) is None)

    async def promote(self, trial: RunningTrial) -> str | None:
        if self._promotions == 0:
            self.reached = trial
            return NEXT_STEP
        self._promotions -= 1
        return None

    def mark_confirming(self, number: int) -> None:
        pass

    def expected_front(self) -> ExpectedFront:
        return acquisition.expected_front(self.posterior)


@dataclass(frozen=True)
class _Ready:
    plan: Plan
    posterior: Posterior


class RungTrial:
    """A config of Tune, from its first rung to the confirmed model."""

    def __init__(self, config: Mapping[str, Any], session: Session, pipeline: Pipeline) -> None:
        self._config = config
        self._session = session
        self._pipeline = pipeline
        self._can_run = deployable_on(session.device.devices)
        self._forms = FileForms(session.study)
        self._plans = plan_space(session.space, self._can_run, self._forms)
        self._ready: _Ready | None = None

    async def step(self, number: int) -> dict[str, Any]:
        """Make a rung and give its metrics: 0 is the refit, the last step confirms. Steps before it are looked up.

        What breaks a limit or does not fit the device ends with `outcome` and `reason`. Raises
        `StageError` when a stage fails.
        """
        ready = self._ready = self._ready or await self._prepare()
        if reason := self._can_run(ready.plan.deployment):
            return self._ended(Record("does_not_fit", ready.plan, reason, constraints={FITS: 1.0}))
        scheduler = StepScheduler(ready.posterior, number, self._session.search_policy.training.least_gain)
        record = await run_plan(0, ready.plan, self._pipeline, scheduler)
        if scheduler.reached is not None:
            return self._goes_on(scheduler.reached, ready.posterior)
        ended = self._ended(record)
        if record.failure is not None:
            raise StageError(**record.failure)
        return ended

    async def _prepare(self) -> _Ready:
        """What a run does before its search, for this plan alone. The first trial of a study makes it for all."""
        session, knobs = self._session, ConfigSpace(self._session.space)
        unpruned = UnprunedModels(session, self._pipeline, self._plans, self._forms)
        baseline = await unpruned.baseline()
        plan = knobs.plan(self._config)
        deployed, is_runnable = plan.deployment, not self._can_run(plan.deployment)
        if is_runnable:
            model = Unpruned(plan.backbone, deployed.runtime, deployed.provider, deployed.precision)
            await FormFinder(session, self._pipeline, self._plans, self._forms).find(model)
        plan = knobs.plan(self._config, self._forms)
        lost = await unpruned.lost_beside_fp32(plan) if is_runnable else {}
        pipeline, records = self._pipeline, session.study.records()
        measured = pipeline.device_metrics, pipeline.device_changes
        return _Ready(plan, Posterior(session.goals(baseline), records, pipeline.bases, *measured, lost))

    def _goes_on(self, running: RunningTrial, posterior: Posterior) -> dict[str, Any]:
        """The qualities are those of the rung as it was evaluated, not what a run expects of the last rung."""
        assert running.proxy is not None  # it was promoted, and so predicted
        qualities = running.rung_values
        if qualities is None:
            lost = posterior.lost_in(running.plan)
            qualities = {
                name: split(name)[0].shifted(figure.value, -lost.get(name, 0.0))
                for name, figure in running.proxy.figures.items()
            }
        predicted = {f"predicted_{name}": estimate.mean for name, estimate in running.proxy.predicted.items()}
        values = _measured(running.metrics) | dict(qualities) | {"rung": running.rung}
        return unmeasured(self._session.space) | values | predicted

    def _ended(self, record: Record) -> dict[str, Any]:
        reason = record.reason or "; ".join(name for name, by in record.constraints.items() if by > 0.0)
        ended = {"done": True, "outcome": record.outcome, "reason": reason, "rung": record.rung}
        return unmeasured(self._session.space) | _measured(record.metrics) | ended | {"trial": self._add(record)}

    def _add(self, record: Record) -> int | None:
        """The number of the trial of the study that has this result; None for a plan that it cannot hold. A trial of
        Tune that is repeated is the same one."""
        study = self._session.study
        for number, stored in study.records().items():
            if stored.outcome == record.outcome and (stored.plan == record.plan or _same(stored.keys, record.keys)):
                return number
        return study.add(self._plans, record) if self._plans.contains(record.plan) else None


def unmeasured(space: SearchSpace) -> dict[str, Any]:
    """The keys that every result has: schedulers and searchers of Tune refuse one without its metric."""
    return dict.fromkeys(space.objectives, math.nan) | {
        "done": False,
        "outcome": None,
        "reason": "",
        "trial": None,
        "rung": 0,
        **{f"predicted_{name}": None for name in space.qualities},
    }


def _measured(metrics: Metrics) -> dict[str, Any]:
    return {name: value for name, value in metrics.values.items() if value is not None}


def _same(keys: Keys | None, others: Keys | None) -> bool:
    return keys is not None and keys == others


@asynccontextmanager
async def opened(space: SearchSpace, config: Mapping[str, Any]) -> AsyncIterator[RungTrial]:
    """Join the study with database, device and stages for one trial."""
    notes = Notes()
    home = StudyFolders.of(space)
    remember_destinations(space.devices, os.environ)
    with ExitStack() as closing:
        closing.enter_context(home.running(notes.note))
        cores = closing.enter_context(cores_kept_free(space))
        ledger = Ledger.open(space.storage)
        closing.callback(ledger.close)
        adopt_store(ledger, space.files, os.environ)
        ledger.costs.start_run(space.study, space.resources.cpus)
        study = Study.open(space)
        closing.callback(study.close)
        device = closing.enter_context(open_device(study, space, cores, notes.note))
        for board in device.devices:
            refuse_unmetered(board.name, board.info, metrics_on(board.name, (*space.objectives, *space.limits)))
        session = Session(space, study, ledger, ThreadRunner(), device, DriverId.current(), 1, notes)
        async with Workplace(study, ledger, space, session.runner, device, notes).pipeline() as pipeline:
            study.remember("protocol", pipeline.protocols.confirm.id)
            if pipeline.fleet is not None:
                adopt_fleet(study, pipeline.fleet)
            yield RungTrial(config, session, pipeline)


class Notes(Silent):
    """What a run would show goes to the log of the trial's process."""

    def note(self, text: str) -> None:
        logger.info("%s", text)


class ThreadRunner:
    """Runs each stage in this process, beside the event loop that keeps its claims alive."""

    async def run(self, job: Job[R]) -> tuple[R, StageCost]:
        try:
            return await asyncio.to_thread(run_task, job)
        except VitsearchError:
            raise
        except Exception as error:  # whatever torch, timm or onnx raises is the stage's own failure
            if full := no_room(error):
                raise StoreError(f"{job.stage}: {full}") from error
            raise StageError(job.stage, type(error).__name__, str(error)) from error

    def close(self) -> None:
        pass
