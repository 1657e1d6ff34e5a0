"""One trial of Tune: a plan that is made rung by rung, by the stages of a run, in this process.

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
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import metrics_on
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.devices.agent_device import refuse_unmetered
from vitsearch.devices.deployable import deployable_on
from vitsearch.devices.token_places import remember_places
from vitsearch.errors import StageError, StoreError, VitsearchError
from vitsearch.pipeline.jobs import Job
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Silent
from vitsearch.search.finished.workplace import Workplace
from vitsearch.search.home import Home
from vitsearch.search.leaderboard.form_finder import FormFinder
from vitsearch.search.leaderboard.unpruned import UnprunedModels
from vitsearch.search.open_device import cores_kept_free, open_device
from vitsearch.search.outlook import FITS, Outlook
from vitsearch.search.plans import plan_space
from vitsearch.search.session import Session
from vitsearch.search.trial import failure
from vitsearch.space import SearchSpace
from vitsearch.storage.atomic_files import no_room
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.storage.stores import adopt_store
from vitsearch.study.found_forms import FoundForms
from vitsearch.study.identity import adopt_fleet
from vitsearch.study.sampling import Unpruned
from vitsearch.study.study import Study
from vitsearch.tune.knobs import Knobs
from vitsearch.workers.ray_runner import run_task

R = TypeVar("R")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ready:
    plan: Plan
    outlook: Outlook


class RungTrial:
    """A config of Tune, from its first rung to the confirmed model."""

    def __init__(self, config: Mapping[str, Any], session: Session, pipeline: Pipeline) -> None:
        self._config = config
        self._session = session
        self._pipeline = pipeline
        self._can_run = deployable_on(session.device.devices)
        self._forms = FoundForms(session.study)
        self._plans = plan_space(session.space, self._can_run, self._forms)
        self._ready: _Ready | None = None

    async def step(self, number: int) -> dict[str, Any]:
        """Make a rung and give its metrics: 0 is the refit, the last step confirms. Steps before it are looked up.

        What breaks a limit or does not fit the device ends with ``outcome`` and ``reason``. Raises
        :class:`StageError` when a stage fails.
        """
        ready = self._ready = self._ready or await self._prepare()
        if reason := self._can_run(ready.plan.deployment):
            return self._ended(Record("does_not_fit", ready.plan, reason, constraints={FITS: 1.0}))
        try:
            return await self._rung(ready, number)
        except StageError as error:
            record = failure(ready.plan, error)
            ended = self._ended(record)
            if record.outcome == "failed":
                raise
            return ended

    async def _prepare(self) -> _Ready:
        """What a run does before its search, for this plan alone. The first trial of a study makes it for all."""
        session, knobs = self._session, Knobs(self._session.space)
        baseline = await UnprunedModels(session, self._pipeline, self._plans, self._forms).baseline()
        plan = knobs.plan(self._config)
        deployed = plan.deployment
        if not self._can_run(deployed):
            model = Unpruned(plan.backbone, deployed.runtime, deployed.provider, deployed.precision)
            await FormFinder(session, self._pipeline, self._plans, self._forms).find(model)
        pipeline, records = self._pipeline, session.study.records()
        outlook = Outlook(session.goals(baseline), records, pipeline.base_accuracy, pipeline.device_metrics)
        return _Ready(knobs.plan(self._config, self._forms), outlook)

    async def _rung(self, ready: _Ready, number: int) -> dict[str, Any]:
        pipeline, outlook, recipe = self._pipeline, ready.outlook, ready.plan.recipe
        trial = await pipeline.resolve(ready.plan)
        running = RunningTrial(0, ready.plan, trial.keys, await pipeline.screen(trial))
        verdict = outlook.judge_screen(running)
        if verdict is not None and verdict.outcome == "infeasible":  # whether a dominated plan ends is up to Tune
            return self._ended(verdict)
        found = await pipeline.proxy(trial)
        running = outlook.predict(running, trial.shared.base.accuracy, found)
        rungs = (0,) if running.needs_no_training else recipe.rungs
        if number == 0:
            return self._goes_on(replace(running, accuracy=found.accuracy))
        if number < len(rungs):
            accuracy = (await pipeline.train(trial, rungs[number])).accuracy
            return self._goes_on(replace(running, rung=rungs[number], accuracy=accuracy))
        keys, metrics = await pipeline.confirm(trial, rungs[-1])
        return self._ended(outlook.confirmed(replace(running, rung=rungs[-1]), keys, metrics))

    def _goes_on(self, running: RunningTrial) -> dict[str, Any]:
        values = _measured(running.metrics) | {"accuracy": running.accuracy}
        predicted = running.proxy.predicted_accuracy if running.proxy else None
        return unmeasured(self._session.space) | values | {"rung": running.rung, "predicted_accuracy": predicted}

    def _ended(self, record: Record) -> dict[str, Any]:
        reason = record.reason or "; ".join(name for name, by in record.constraints.items() if by > 0.0)
        ended = {"done": True, "outcome": record.outcome, "reason": reason, "rung": record.rung}
        return unmeasured(self._session.space) | _measured(record.metrics) | ended | {"trial": self._add(record)}

    def _add(self, record: Record) -> int | None:
        """The number of the trial of the study that has this result; None for a plan that it cannot hold. A trial of
        Tune that is repeated is the same one."""
        study = self._session.study
        for number, known in study.records().items():
            if known.outcome == record.outcome and (known.plan == record.plan or _same(known.keys, record.keys)):
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
        "predicted_accuracy": None,
    }


def _measured(metrics: Metrics) -> dict[str, Any]:
    return {name: value for name, value in metrics.values.items() if value is not None}


def _same(one: Keys | None, other: Keys | None) -> bool:
    return one is not None and one == other


@asynccontextmanager
async def opened(space: SearchSpace, config: Mapping[str, Any]) -> AsyncIterator[RungTrial]:
    """Join the study with database, device and stages for one trial."""
    notes = Notes()
    home = Home.of(space)
    remember_places(space.devices, os.environ)
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
        for one in device.devices:
            refuse_unmetered(one.name, one.info, metrics_on(one.name, (*space.objectives, *space.limits)))
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
