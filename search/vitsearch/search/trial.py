"""One trial, from a plan to its record, in order of cost. The whole flow stands here.

    resolve    which heads and channels stay; seen before?                    free
    screen     build, compress, export, measure on the device                 device seconds
    proxy     closed-form refit, divergence from the unpruned model: rung 0  one or two CPU-seconds
    train      fine-tune in rungs, the promoted plans only                    trainer seconds
    confirm    export what was trained, its accuracy, measure again           trainer and device

A plan that breaks a limit, or that better plans would dominate even at the best accuracy known for
its backbone, stops at the screen. Each stage is looked up in the ledger first, so a trial that goes on
after a crash repeats nothing.
"""

from __future__ import annotations

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, ProxyScore, Record
from vitsearch.errors import StageError
from vitsearch.pipeline.pipeline import Pipeline, ResolvedTrial
from vitsearch.search.scheduler import Candidate, TrialScheduler


async def run_trial(number: int, plan: Plan, pipeline: Pipeline, scheduler: TrialScheduler) -> Record:
    """Never raises for what the plan itself did wrong; transient faults pass through."""
    keys = None
    try:
        trial = await pipeline.prepare(plan)
        keys = trial.keys()
        if duplicate_of := scheduler.duplicate_of(number, plan, keys):
            return duplicate_of
        return await _stages(number, trial, pipeline, scheduler)
    except StageError as error:
        return failure(plan, error, keys)


async def _stages(number: int, trial: ResolvedTrial, pipeline: Pipeline, scheduler: TrialScheduler) -> Record:
    plan = trial.plan
    screen = await pipeline.screen(trial)
    keys, seen_first = trial.keys(), screen.values
    so_far = Record("dominated", plan, keys=keys, screen=seen_first, values=seen_first, errors=screen.errors)
    if verdict := scheduler.judge_screen(so_far):
        return verdict

    seen = await pipeline.proxy(trial)
    proxy = ProxyScore(seen.accuracy, seen.kl, scheduler.predict_accuracy(trial.base.accuracy, seen.kl))
    candidate = Candidate(number, proxy.forecast, screen.values)
    rung = 0
    for next_rung in plan.recipe.rungs[1:]:
        if why := await scheduler.wait_for_slot(candidate):
            return scheduler.not_promoted(so_far, proxy, rung, why)
        rung = next_rung
        trained = await pipeline.train(trial, rung)
        candidate = Candidate(number, trained.accuracy, screen.values)

    scheduler.confirms(number)
    confirmed = await pipeline.confirm(trial, rung)
    return scheduler.confirmed(so_far, proxy, rung, confirmed)


def failure(plan: Plan, error: StageError, keys: Keys | None = None) -> Record:
    """A device that cannot hold the model is a broken constraint; anything else is the stage's failure."""
    from vitsearch.devices.agent_device import DOES_NOT_FIT

    if error.stage == "measure" and error.kind in DOES_NOT_FIT:
        return Record("does_not_fit", plan, error.message, keys, constraints={"fits": 1.0})
    told = {"stage": error.stage, "kind": error.kind, "message": error.message}
    return Record("failed", plan, str(error), keys, failure=told)
