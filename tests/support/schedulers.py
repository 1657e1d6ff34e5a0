"""A scheduler and what waits for it, for tests of what it decides."""

import asyncio

from vitsearch.core.figures import Estimate, Figure, Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Compression, Plan, Recipe
from vitsearch.core.record import Keys, ProxyFigure, ProxyScore, RunningTrial
from vitsearch.search.goals import Goals
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import Rules, TrialScheduler

KEYS = Keys("w" * 64, "g" * 64, None, "d" * 64)
PLAN = Plan(
    "fake_vit",
    "builtin",
    ImageSize.square(28),
    None,
    Compression(),
    "none",
    Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0),
)
OBJECTIVES = ("accuracy", "cpu_ms_p50")
REFERENCE = loss(OBJECTIVES, {"accuracy": 0.8, "cpu_ms_p50": 4.4})


def posterior_of(records=None, bounds=(), margin=0.01, **more):
    goals = Goals(OBJECTIVES, tuple(bounds), REFERENCE, margin)
    return Posterior(goals, records or {}, {"fake_vit": {"accuracy": 0.9}}, **more)


def scheduler_of(records=None, bounds=(), candidates=2, slots=1, wanted=99, margin=0.01, **more):
    return TrialScheduler(Rules(candidates, slots, wanted), posterior_of(records, bounds, margin), **more)


def metrics(**values):
    return Metrics({name: Figure(value) for name, value in values.items()})


def screened(plan, ms):
    return RunningTrial(9, plan, KEYS, metrics(cpu_ms_p50=ms))


def candidate(number, accuracy, ms):
    return RunningTrial(number, PLAN, KEYS, metrics(cpu_ms_p50=ms), qualities=expected(accuracy))


def expected(accuracy, deviation=0.0):
    return {"accuracy": Estimate(accuracy, deviation)}


def proxy(divergence, *figure, is_near=False):
    """A rung 0 that knows the accuracy alone; `figure` as of `ProxyFigure`."""
    return ProxyScore(divergence, is_near, {"accuracy": ProxyFigure(*figure)})


async def let_tasks_run():
    for _ in range(5):
        await asyncio.sleep(0)


def answers(scheduler, *candidates):
    """What became of each candidate: its reason, None when chosen, "waits" when there is no answer yet."""

    async def ask():
        tasks = [asyncio.create_task(scheduler.wait_for_slot(trial)) for trial in candidates]
        await let_tasks_run()
        reasons = {
            trial.number: task.result() if task.done() else "waits"
            for trial, task in zip(candidates, tasks, strict=True)
        }
        for task in tasks:
            task.cancel()
        return reasons

    return asyncio.run(ask())
