"""One trial, from a plan to its record, in order of cost. The whole flow stands here.

    resolve    which heads and channels stay; seen before?                    free
    screen     build, compress, export, measure on the device                 device seconds
    signal     closed-form refit, divergence from the unpruned model: rung 0  one or two CPU-seconds
    train      fine-tune in rungs, the promoted plans only                    trainer seconds
    confirm    export what was trained, its accuracy, measure again           trainer and device

A plan that breaks a limit, or that better plans would dominate even at the best accuracy known for
its backbone, stops at the screen. Each stage is looked up in the ledger first, so a trial that goes on
after a crash repeats nothing.
"""

from __future__ import annotations

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record, Signal
from vitsearch.errors import StageError
from vitsearch.pipeline.pipeline import Lab, Prepared
from vitsearch.search.scheduler import Board, Candidate


async def run_trial(number: int, plan: Plan, lab: Lab, board: Board) -> Record:
    """Never raises for what the plan itself did wrong; transient faults pass through."""
    keys = None
    try:
        prepared = await lab.prepare(plan)
        keys = prepared.keys()
        if twin := board.twin(number, plan, keys):
            return twin
        return await _stages(number, prepared, lab, board)
    except StageError as error:
        return failure(plan, error, keys)


async def _stages(number: int, prepared: Prepared, lab: Lab, board: Board) -> Record:
    plan = prepared.plan
    screen = await lab.screen(prepared)
    keys, seen_first = prepared.keys(), screen.values
    so_far = Record("hopeless", plan, keys=keys, screen=seen_first, values=seen_first, errors=screen.errors)
    if verdict := board.judge_screen(so_far):
        return verdict

    seen = await lab.signal(prepared)
    signal = Signal(seen.accuracy, seen.kl, board.foretell(prepared.base.accuracy, seen.kl))
    candidate = Candidate(number, signal.forecast, screen.values)
    rung = 0
    for next_rung in plan.recipe.rungs[1:]:
        if why := await board.passed_over(candidate):
            return board.not_promoted(so_far, signal, rung, why)
        rung = next_rung
        trained = await lab.train(prepared, rung)
        candidate = Candidate(number, trained.accuracy, screen.values)

    board.confirms(number)
    confirmed = await lab.confirm(prepared, rung)
    return board.confirmed(so_far, signal, rung, confirmed)


def failure(plan: Plan, error: StageError, keys: Keys | None = None) -> Record:
    """A device that cannot hold the model is a broken constraint; anything else is the stage's failure."""
    from vitsearch.devices.agent_device import DOES_NOT_FIT

    if error.stage == "measure" and error.kind in DOES_NOT_FIT:
        return Record("does_not_fit", plan, error.message, keys, constraints={"fits": 1.0})
    told = {"stage": error.stage, "kind": error.kind, "message": error.message}
    return Record("failed", plan, str(error), keys, failure=told)
