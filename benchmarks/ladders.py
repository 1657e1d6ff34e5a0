"""Ways up the rungs of a training, on our own table: decisions by the posterior, and asynchronous successive halving.

    python benchmarks/ladders.py [--seeds 10] [--workers 2]

All see the same random candidates, choose what starts by the same expected gain from rung 0, and count what is trained
to the last rung, with its weights in every deployment.

    whole      what starts goes to the last rung
    stopped    the same, unless it may add too little by then, beside what was found meanwhile: with the accuracy that
               was predicted from rung 0, or that of the rung if it is higher. So a run decides today
    posterior  after a rung a plan competes again, with the accuracy of that rung and its error, by its expected gain,
               against all that waits. So a run decided before
    halving    a plan goes on when it is in the best 1/eta of all that have finished its rung, by non-dominated rank of
               (accuracy after the rung, measured cost); otherwise a new one starts. Schmucker et al. 2021,
               "Multi-objective asynchronous successive halving", with crowding by gain within a rank

A trainer's seconds are CPU-seconds as they were measured; of shapes that were not trained, by their multiplications.
Prints for each way the seconds until the front is at a share of what can be gained, over those of `posterior` on the
same seed, with the 95 % interval of a bootstrap over seeds.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from own_table_facts import OBJECTIVES, evaluation_of, every_parameters, facts, keys_of, metrics_of, table
from own_table_plans import plans_of_table
from own_table_rows import Built

from vitsearch.core.figures import Estimate, means
from vitsearch.core.pareto import Loss, front, hypervolume, loss
from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record, RunningTrial
from vitsearch.search.acquisition import Prospect, expected_front, most_promising, prospects
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import equal_price
from vitsearch.search.verdicts import judge_screen
from vitsearch.study.plan_pool import PlanParameters

RUNGS = (1, 3)
CANDIDATES = 3
LEVELS = (0.3, 0.4, 0.5, 0.6)
RESAMPLES = 4000


@dataclass
class Ladder:
    """One search: `reached` has the trainer's seconds and the share of what can be gained after each training."""

    way: str
    seed: int
    budget_s: float
    workers: int = 1
    eta: int = 3
    reached: list[tuple[float, float]] = field(default_factory=list)
    started: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        self._facts = facts()
        self._posterior = Posterior(self._facts.goals, {}, self._facts.bases)
        self._points: list[Loss] = []
        self._plans = self._stream()
        self._waiting: list[RunningTrial] = []
        self._halved: dict[int, list[RunningTrial]] = {rung: [] for rung in RUNGS}
        self._promoted: set[int] = set()
        self._weights: set[str] = set()
        self._training: dict[int, RunningTrial] = {}
        self._number = 0
        for plan in self._facts.leaders:
            self._confirm(plan, 0)

    def run(self) -> None:
        clock, spent, busy = 0.0, 0.0, []  # type: tuple[float, float, list[tuple[float, int, RunningTrial]]]
        while spent < self.budget_s:
            while len(busy) < self.workers:
                chosen = self._next()
                if chosen is None:
                    break
                cost = table().training_cpu_s(self._built(chosen), rung_after(chosen.rung))
                spent += cost
                self._training[chosen.number] = chosen
                heapq.heappush(busy, (clock + cost, chosen.number, chosen))
            if not busy:
                return
            clock, _, done = heapq.heappop(busy)
            del self._training[done.number]
            self._after(done, rung_after(done.rung))
            self.reached.append((spent, self._share()))

    # ---- candidates

    def _stream(self) -> Iterator[Plan]:
        pool = PlanParameters(plans_of_table())
        order = list(every_parameters())
        random.Random(self.seed).shuffle(order)
        return (pool.plan(parameters) for parameters in order)

    def _candidates(self) -> None:
        """Three new ones at a time, as a round has them."""
        new = 0
        while new < CANDIDATES and (plan := next(self._plans, None)) is not None:
            metrics, keys, built = metrics_of(plan, accuracy_known=False), keys_of(plan), table().of(plan)
            if metrics is None or built is None or keys.weights_key in self._weights:
                continue
            self._number += 1
            running = RunningTrial(self._number, plan, keys, metrics)
            if judge_screen(self._posterior, running) is not None:
                continue
            self._weights.add(keys.weights_key)
            running = self._posterior.predict(running, {"accuracy": built.base}, evaluation_of(built))
            if running.needs_no_training:
                self._confirm(plan, 0)
                continue
            self._waiting.append(running)
            new += 1

    # ---- decisions

    def _next(self) -> RunningTrial | None:
        if self.way == "halving" and (going_on := self._promotable()) is not None:
            self._promoted.add(going_on.number)
            return going_on
        for _ in range(60):
            begun = [trial for trial in self._waiting if trial.rung and self.way in ("whole", "stopped")]
            self._candidates()
            best = begun[0] if begun else self._best()
            if best is not None:
                self._waiting.remove(best)
                self.started += best.rung == 0
                return best
        return None

    def _best(self) -> RunningTrial | None:
        weighed, least = self._worth(self._waiting)
        self._waiting = [prospect.trial for prospect in weighed]
        best = most_promising(weighed, least, equal_price)
        return None if best is None else self._waiting[best]

    def _worth(self, trials: Sequence[RunningTrial]) -> tuple[list[Prospect], float]:
        """Those that may add what is worth a training, and how much that is."""
        front = expected_front(self._posterior, self._training.values())
        least = POLICY.training.least_gain * front.hypervolume
        weighed = prospects(self._posterior, trials, front)
        return [prospect for prospect in weighed if prospect.is_worth(least)], least

    def _promotable(self) -> RunningTrial | None:
        done = self._halved[RUNGS[0]]
        ranked = by_rank(done)[: len(done) // self.eta]
        return next((trial for trial in ranked if trial.number not in self._promoted), None)

    def _after(self, running: RunningTrial, rung: int) -> None:
        if rung == RUNGS[-1]:
            self.finished += 1
            self._confirm(running.plan, rung, running)
            return
        holdout = table().rung_holdout(self._built(running), rung)
        seen = {"accuracy": Estimate(holdout, POLICY.equality.accuracy_of_rungs)}
        after = replace(running, rung=rung, qualities=seen)
        if self.way == "halving":
            self._halved[rung].append(after)
        elif self.way == "stopped":
            best = running.after_rung(rung, seen)
            if self._worth([best])[0]:
                self._waiting.append(best)
        else:
            self._waiting.append(after)

    # ---- what is reached

    def _confirm(self, plan: Plan, rung: int, running: RunningTrial | None = None) -> None:
        for leader in self._facts.leaders:
            other = replace(plan, deployments=leader.deployments)
            metrics = metrics_of(other, accuracy_known=True) if leader.backbone == plan.backbone else None
            if metrics is None or (rung == 0 and other != plan):
                continue
            point = loss(OBJECTIVES, metrics.values)
            assert point is not None
            self._points.append(point)
            self._number += 1
            proxy = running.proxy if running is not None and other == plan else None
            self._posterior.add(self._number, Record("confirmed", other, "", keys_of(other), metrics, {}, proxy, rung))

    def _share(self) -> float:
        volume = hypervolume(self._points, self._facts.goals.reference)
        return (volume - self._facts.least) / (self._facts.most - self._facts.least)

    def _built(self, running: RunningTrial) -> Built:
        built = table().of(running.plan)
        assert built is not None
        return built


def rung_after(rung: int) -> int:
    return next(epochs for epochs in RUNGS if epochs > rung)


def by_rank(trials: Sequence[RunningTrial]) -> list[RunningTrial]:
    """Layer by layer of non-dominated (accuracy, cost); within a layer the most accurate first."""
    left, ranked = list(trials), []
    while left:
        points = [loss(OBJECTIVES, trial.metrics.values | means(trial.qualities)) for trial in left]
        best = set(front([point for point in points if point is not None]))
        layer = [trial for i, trial in enumerate(left) if i in best]
        ranked += sorted(layer, key=lambda trial: -trial.qualities["accuracy"].mean)
        left = [trial for i, trial in enumerate(left) if i not in best]
    return ranked


def reaches(ladder: Ladder, level: float) -> float | None:
    return next((seconds for seconds, share in ladder.reached if share >= level), None)


def interval(values: Sequence[float]) -> tuple[float, float]:
    draw = np.random.default_rng(0)
    means = draw.choice(np.array(values), (RESAMPLES, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--budget-s", type=float, default=1500.0)
    options = parser.parse_args()
    ways = {
        "posterior": ("posterior", 3),
        "whole": ("whole", 3),
        "stopped": ("stopped", 3),
        "halving, 1/2": ("halving", 2),
    }
    ways["halving, 1/3"] = ("halving", 3)
    ladders: dict[str, list[Ladder]] = {}
    for name, (way, eta) in ways.items():
        ladders[name] = [Ladder(way, seed, options.budget_s, options.workers, eta) for seed in range(options.seeds)]
        for ladder in ladders[name]:
            ladder.run()
    print(f"| way | started, finished | {' | '.join(f'at {level:.0%}' for level in LEVELS)} | share at the end |")
    print("|---" * (len(LEVELS) + 3) + "|")
    for name, searches in ladders.items():
        counts = (
            f"{statistics.mean(s.started for s in searches):.0f}, {statistics.mean(s.finished for s in searches):.0f}"
        )
        cells = [cell(searches, ladders["posterior"], level) for level in LEVELS]
        ends = [ladder.reached[-1][1] for ladder in searches]
        less = [end - other.reached[-1][1] for end, other in zip(ends, ladders["posterior"], strict=True)]
        low, high = interval(less)
        print(f"| {name} | {counts} | {' | '.join(cells)} | {statistics.mean(ends):.3f} ({low:+.3f}, {high:+.3f}) |")


def cell(searches: Sequence[Ladder], first: Sequence[Ladder], level: float) -> str:
    """The mean seconds of the first way, or the geometric mean of the ratio to it, where both get there."""
    pairs = [(reaches(own, level), reaches(other, level)) for own, other in zip(searches, first, strict=True)]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(both) < 2:
        return "-"
    if searches is first:
        return f"{statistics.mean(a for a, _ in both):.0f} s ({len(both)})"
    logs = [math.log(a / b) for a, b in both]
    low, high = interval(logs)
    return f"{math.exp(statistics.mean(logs)):.2f} ({math.exp(low):.2f} to {math.exp(high):.2f}; {len(both)})"


if __name__ == "__main__":
    main()
