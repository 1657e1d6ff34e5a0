"""One trial, from a plan to its record, in order of cost. The whole flow is on this screen.

    resolve    which heads and channels stay; was it seen before?             free
    screen     build, compress, export, measure on the device; again          device seconds
               where only the width of the interval decides
    proxy      closed-form refit, divergence from the unpruned model: rung 0  one or two CPU-seconds
    train      fine-tune in rungs, only the plans that were chosen            trainer seconds
    confirm    export what came out and evaluate it in its own runtime        some seconds

A plan stops after its screening measurement when it breaks a limit, or when it would be dominated even
with the best quality known for its backbone. Weights that were trained for another deployment, and those
that the refit has left next to their base, are confirmed as they are. Each stage is looked up in the ledger
first, so a trial that is resumed after a crash repeats nothing.

How far a plan goes is decided by a `Scheduler`: that of a run, or Ray Tune (`tune/rungs.py`).
"""

from __future__ import annotations

from dataclasses import replace

from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.core.stage import Stage
from vitsearch.devices.agent_device import DOES_NOT_FIT
from vitsearch.errors import StageError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.resolved_trial import ResolvedTrial
from vitsearch.search import verdicts
from vitsearch.search.goals import FITS
from vitsearch.search.not_promoted import not_promoted
from vitsearch.search.scheduler import Scheduler


async def run_trial(number: int, plan: Plan, pipeline: Pipeline, scheduler: Scheduler) -> Record:
    """Run one trial from its plan to its record. A failure of the plan is recorded; transient faults are raised."""
    pipeline.context.start_trial(number, plan)
    return await run_plan(number, plan, pipeline, scheduler)


async def run_plan(number: int, plan: Plan, pipeline: Pipeline, scheduler: Scheduler) -> Record:
    """Run a plan that has no trial in the study yet; `number` only names it to `scheduler`."""
    keys = None
    try:
        trial = await pipeline.resolve(plan)
        keys = trial.keys
        if duplicate := scheduler.duplicate_of(number, plan, keys):
            return duplicate
        return await _stages(number, trial, pipeline, scheduler)
    except StageError as error:
        return failure(plan, error, keys)


async def _stages(number: int, trial: ResolvedTrial, pipeline: Pipeline, scheduler: Scheduler) -> Record:
    posterior, recipe = scheduler.posterior, trial.plan.recipe
    running = RunningTrial(number, trial.plan, trial.keys, await pipeline.screen(trial))
    if scheduler.interval_decides(running):
        running = replace(running, metrics=await pipeline.screen(trial, POLICY.measuring.rounds_in_doubt))
    if verdict := scheduler.judge_screen(running):
        return verdict
    running = posterior.predict(running, trial.shared.base.qualities, await pipeline.proxy(trial))
    is_trained = scheduler.skips_trained and pipeline.is_trained(trial)
    if is_trained:
        running = posterior.as_trained(running)
    if scheduler.interval_decides(running):
        running = replace(running, metrics=await pipeline.screen(trial, POLICY.measuring.rounds_in_doubt))
    for rung in () if is_trained or running.needs_no_training else recipe.rungs[1:]:
        if (reason := await scheduler.promote(running)) is not None:
            return not_promoted(running, reason, scheduler)
        running = posterior.forecast(running)  # by which it was chosen, to be shown beside its result
        row = await pipeline.train(trial, rung)
        running = posterior.after_rung(running, rung, row.qualities, row.errors)
    if (reason := await scheduler.promote(running)) is not None:
        return not_promoted(running, reason, scheduler)
    await pipeline.export(trial, running.rung)
    scheduler.mark_confirming(number)
    return verdicts.confirmed(posterior.goals, running, *await pipeline.confirm(trial, running.rung))


def failure(plan: Plan, error: StageError, keys: Keys | None = None) -> Record:
    """A device that cannot hold the model is a broken constraint; anything else is the stage's failure."""
    if error.stage == Stage.MEASURE and error.kind in DOES_NOT_FIT:
        return Record("does_not_fit", plan, error.message, keys, constraints={FITS: 1.0})
    described = {"stage": error.stage, "kind": error.kind, "message": error.message}
    return Record("failed", plan, str(error), keys, failure=described)
