"""How long a plan should be trained, by the hypervolume that a search reaches for its CPU-seconds, on our own table.

    python benchmarks/ladder_length.py [--seeds 10] [--rounds 24]

Searches as in `own_table_search.py`, by `auto`, of which each training lasts one epoch of 4,096 images or three. What
one epoch less costs a shape that was not trained is the difference of the two forecasts, with one residual for both:
with a residual for each, the longer tail of the shorter training had the more lucky plans. A search spends what the
table has of refits, evaluations and trainings, and for exports, screens and confirmations what a run took. Prints the
share of what can be gained with three epochs at each budget, and the 95 % interval of a bootstrap of one epoch minus
three, paired by seed. What precedes a search and what follows it is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from dataclasses import dataclass, field, replace
from functools import cache

import optuna
from ladders import interval
from own_table_rows import Built
from own_table_search import Facts, TableSearch, facts, table

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.plan import Plan
from vitsearch.core.record import RunningTrial
from vitsearch.pipeline.jobs import Evaluation

SCREEN_CPU_S = 3.1
"""An export and a screening measurement in a quickstart."""
CONFIRM_CPU_S = 6.0
"""An export, an evaluation and a confirmation."""
BUDGETS_CPU_S = (150, 200, 250, 300, 350, 400, 500, 600)
IMAGES_PER_EPOCH = 4096


@cache
def lost_by_one_epoch(key: str) -> float:
    """The accuracy that a shape has less after one epoch than after three."""
    shape = table().shapes[key]
    if shape.needs_no_training:
        return 0.0
    validations = {rung.epochs: rung.validation for rung in shape.rungs}
    after = [validations.get(epochs, table().forecasts[epochs].predict(shape)) for epochs in (1, 3)]
    return after[1] - after[0]


@dataclass
class TimedSearch(TableSearch):
    """`curve` has the CPU-seconds and the share that were reached before each round."""

    epochs: int = 3
    training_cpu_s: float = 0.0
    refit_cpu_s: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def spent_cpu_s(self) -> float:
        return self.training_cpu_s + self.refit_cpu_s + SCREEN_CPU_S * self.screened + CONFIRM_CPU_S * self.trained

    def share_at(self, budget_cpu_s: float) -> float:
        return max((share for spent, share in self.curve if spent <= budget_cpu_s), default=0.0)

    def _read_facts(self) -> Facts:
        whole = facts()
        return replace(whole, goals=replace(whole.goals, training_images=IMAGES_PER_EPOCH * self.epochs))

    def _metrics_of(self, plan: Plan) -> Metrics | None:
        metrics, shape = super()._metrics_of(plan), table().of(plan)
        if metrics is None or shape is None or self.epochs == 3:
            return metrics
        accuracy = (metrics.value("accuracy") or 0.0) - lost_by_one_epoch(shape.key)
        return metrics | Metrics({"accuracy": Figure(min(1.0, accuracy))})

    def _evaluation(self, shape: Built) -> Evaluation:
        self.refit_cpu_s += shape.refit_cpu_s + shape.judge_cpu_s
        return super()._evaluation(shape)

    def _choose(self) -> str | None:
        self.curve.append((self.spent_cpu_s, self._share()))
        return super()._choose()

    def _train(self, trial: optuna.Trial, running: RunningTrial) -> None:
        shape = table().of(running.plan)
        assert shape is not None
        self.training_cpu_s += sum(table().training_cpu_s(shape, rung) for rung in (1, 3) if rung <= self.epochs)
        super()._train(trial, running)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    searches: dict[int, list[TimedSearch]] = {}
    for epochs in (1, 3):
        searches[epochs] = [TimedSearch("auto", seed, epochs=epochs) for seed in range(options.seeds)]
        for search in searches[epochs]:
            search.run(options.rounds)
    print("| CPU s | seeds | one epoch | three epochs | one minus three |\n|---|---|---|---|---|")
    for budget in BUDGETS_CPU_S:
        pairs = zip(searches[1], searches[3], strict=True)
        shares = [
            (one.share_at(budget), three.share_at(budget))
            for one, three in pairs
            if min(one.spent_cpu_s, three.spent_cpu_s) >= budget
        ]
        if len(shares) < 2:
            continue
        low, high = interval([one - three for one, three in shares])
        means = [statistics.mean(column) for column in zip(*shares, strict=True)]
        cells = [budget, len(shares), *(f"{mean:.3f}" for mean in means), f"{low:+.3f} to {high:+.3f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
