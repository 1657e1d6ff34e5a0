"""How long a plan should be trained, by the hypervolume that a search reaches for its CPU-seconds, on our own table.

    python benchmarks/ladder_length.py [--seeds 10] [--trainings 24]

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
from collections.abc import Iterator

import optuna
from ladders import interval
from own_table_facts import table
from own_table_search import Replay, replay

SCREEN_CPU_S = 3.1
"""An export and a screening measurement in a quickstart."""
CONFIRM_CPU_S = 6.0
"""An export, an evaluation and a confirmation."""
BUDGETS_CPU_S = (150, 200, 250, 300, 350, 400, 500, 600)
EPOCHS = (1, 3)


def curve(search: Replay, epochs: int) -> Iterator[tuple[float, float]]:
    """The CPU-seconds and the share that were reached before each training, and at the end."""
    spent, trained = 0.0, set[str]()
    for record in search.records:
        shape = table().of(record.plan)
        if shape is None or record.keys is None or record.duplicate_of is not None:
            continue
        spent += SCREEN_CPU_S
        if record.proxy is not None:
            spent += shape.refit_cpu_s + shape.judge_cpu_s
        if record.outcome == "confirmed" and record.rung and record.keys.weights_key not in trained:
            yield spent, search.shares[len(trained)]
            trained.add(record.keys.weights_key)
            spent += CONFIRM_CPU_S + sum(table().training_cpu_s(shape, rung) for rung in EPOCHS if rung <= epochs)
    yield spent, search.shares[-1]


def share_at(budget_cpu_s: float, reached: list[tuple[float, float]]) -> float:
    return max((share for spent, share in reached if spent <= budget_cpu_s), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trainings", type=int, default=24)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    one, three = (
        [list(curve(replay(seed, options.trainings, epochs=epochs), epochs)) for seed in range(options.seeds)]
        for epochs in EPOCHS
    )
    print("| CPU s | seeds | one epoch | three epochs | one minus three |\n|---|---|---|---|---|")
    for budget in BUDGETS_CPU_S:
        pairs = [pair for pair in zip(one, three, strict=True) if min(each[-1][0] for each in pair) >= budget]
        shares = [(share_at(budget, short), share_at(budget, long)) for short, long in pairs]
        if len(shares) < 2:
            continue
        low, high = interval([short - long for short, long in shares])
        means = [statistics.mean(column) for column in zip(*shares, strict=True)]
        cells = [budget, len(shares), *(f"{mean:.3f}" for mean in means), f"{low:+.3f} to {high:+.3f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
