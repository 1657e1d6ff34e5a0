"""The leaderboard in every batch and number of threads, though it measures only some of them.

Every unpruned model is measured in the first batch with the fewest threads, and one precision of each backbone in a
runtime and provider in each other batch and number of threads (`PlanSpace.measured_runs`). What these change is taken
to be the same factor for the other precisions, and the two factors to be independent:

    cost(precision, batch, threads) = cost(precision) * cost(varied, batch) / cost(varied)
                                                      * cost(varied, threads) / cost(varied)

Nobody is shown these figures: they say which plans may be worth a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.metrics import split
from vitsearch.core.plan import Plan
from vitsearch.search.plan_requests import LeaderboardEntry
from vitsearch.study.sampling import PlanSpace, Unpruned

Leaders = Mapping[Plan, LeaderboardEntry]


def expected_leaders(plans: PlanSpace, leaders: Leaders) -> dict[Plan, LeaderboardEntry]:
    """Complete a leaderboard.

    Args:
        plans: The plans of the space.
        leaders: What was measured, by the plan.

    Returns:
        The same, and what is expected of each unpruned model in each other batch and number of threads.
    """
    expected = dict(leaders)
    for model in plans.unpruned_models():
        if (base := leaders.get(plans.unpruned(model))) is not None:
            for run in plans.runs(model):
                plan = plans.unpruned(model, **run)
                if plan not in expected:
                    expected[plan] = _moved(base, list(_steps(plans, leaders, model, run)))
    return expected


def _steps(
    plans: PlanSpace, leaders: Leaders, model: Unpruned, run: Mapping[str, str]
) -> Iterator[tuple[Metrics, Metrics]]:
    """The varied model before and after each change; nothing for one whose measurement failed."""
    varied = plans.varied(model)
    before = leaders.get(plans.unpruned(varied))
    for knob, word in run.items():
        after = leaders.get(plans.unpruned(varied, **{knob: word}))
        if before is not None and after is not None:
            yield before.metrics, after.metrics


def _moved(base: LeaderboardEntry, steps: list[tuple[Metrics, Metrics]]) -> LeaderboardEntry:
    def moved(name: str, figure: Figure) -> Figure:
        if figure.value is None or not split(name)[0].on_device:
            return figure
        factor = 1.0
        for before, after in steps:
            old, new = before.value(name), after.value(name)
            factor *= new / old if old and new else 1.0
        return Figure(figure.value * factor)

    figures = {name: moved(name, figure) for name, figure in base.metrics.figures.items()}
    return LeaderboardEntry(base.keys, Metrics(figures), base.shares)
