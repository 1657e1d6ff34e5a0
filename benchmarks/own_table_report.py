"""What our own table holds, and how well rung 0 predicts a fine-tune of three families, from the table itself.

    python benchmarks/own_table_report.py [TABLE]

The fine-tune is that of the table: 3 epochs of 64 steps in two rungs, which is 192 steps. What is predicted of
a shape is predicted from the others. Kendall's tau-b with the
95 % interval of a bootstrap over shapes; the CPU of rung 0 is that of the refit and of the holdout that judges it.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from own_table_data import TABLE, OwnTable
from own_table_forecasts import Line
from own_table_plans import every_plan
from own_table_rows import Built
from scipy import stats

RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    known = OwnTable.read(parser.parse_args().table)
    contents(known)
    forecasts(known)
    taus(known)


def contents(known: OwnTable) -> None:
    print(f"{known.about}\n")
    print("| backbone | shapes | built | of them measured | files measured | trained | files that crash |")
    print("|---|---|---|---|---|---|---|")
    for backbone in [*backbones_of(known), "all"]:
        mine = [one for one in known.shapes.values() if backbone in (one.backbone, "all")]
        built, measured = sum(one.built for one in mine), sum(bool(one.times) for one in mine)
        files, trained = sum(len(one.times) for one in mine), sum(one in known.trained for one in mine)
        failed = sum("failed" in file for one in mine for file in one.files.values())
        failed += sum(len(one.crashed) for one in mine)
        print(f"| {backbone} | {len(mine)} | {built} | {measured} | {files} | {trained} | {failed} |")
    plans = every_plan()
    costs = [known.cost(one, f"{p.deployment.runtime} {p.deployment.precision}") for p in plans if (one := known.of(p))]
    print(f"\n{len(plans)} plans, {sum(cost is not None for cost in costs)} of them run, ", end="")
    print(f"the cost of {sum(cost is not None and cost.measured for cost in costs)} is that of a measured file")
    visits = [times for one in known.shapes.values() for times in one.times.values()]
    apart = [abs(a[1] - b[1]) / math.sqrt(2) for a, b, *_ in visits]
    print(f"standard deviation of a visit, by the median difference of both: {statistics.median(apart) / 0.674:.1%}")


def forecasts(known: OwnTable) -> None:
    print("\n| accuracy after | forecast | leave-one-out error |\n|---|---|---|")
    for rung, found in known.forecasts.items():
        print(f"| {rung} epochs | {found.name} | {found.error:.4f} |")
    print("\n| predicted of what was not built | error on parts left out |\n|---|---|")
    for (backbone, name), model in known.cost_models.items():
        print(f"| log CPU time, {backbone}, {name} | {model.error:.3f} ({model.shapes} files) |")
    for name, error in known.completion_errors.items():
        print(f"| {name} | {error:.4f} |")


def left_out(known: OwnTable) -> dict[str, float]:
    """By shape, the accuracy that the line predicts from all other shapes."""
    pairs = [(one, one.rungs[-1].validation) for one in known.trained]
    return {one.key: Line([pair for pair in pairs if pair[0] is not one]).predict_one(one) for one, _ in pairs}


def taus(known: OwnTable) -> None:
    predicted = left_out(known)
    proxies: dict[str, Callable[[Built], float]] = {
        "KL of rung 0": lambda one: -one.kl,
        "accuracy of rung 0": lambda one: one.holdout,
        "predicted from rung 0": lambda one: predicted[one.key],
        "accuracy after 1 epoch": lambda one: one.rungs[0].holdout,
    }
    print(f"\n| shapes | {' | '.join(proxies)} | CPU-s of rung 0 | of the fine-tune | share |")
    print("|---" * (len(proxies) + 4) + "|")
    for backbone in [*backbones_of(known), "all"]:
        mine = [one for one in known.trained if backbone in (one.backbone, "all")]
        cells = [tau_text([proxy(one) for one in mine], mine) for proxy in proxies.values()]
        rung0 = statistics.mean(one.refit_cpu_s + one.judge_cpu_s for one in mine)
        tuned = statistics.mean(sum(rung.cpu_s for rung in one.rungs) for one in mine)
        print(f"| {backbone}, {len(mine)} | {' | '.join(cells)} | {rung0:.2f} | {tuned:.1f} | 1/{tuned / rung0:.0f} |")


def tau_text(scores: Sequence[float], shapes: Sequence[Built]) -> str:
    tuned = np.array([one.rungs[-1].validation for one in shapes])
    found, draw, taus = np.array(scores), np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = draw.integers(len(found), size=len(found))
        taus.append(float(stats.kendalltau(found[rows], tuned[rows]).statistic))
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return f"{stats.kendalltau(found, tuned).statistic:.2f} ({low:.2f} to {high:.2f})"


def backbones_of(known: OwnTable) -> list[str]:
    return sorted({one.backbone for one in known.shapes.values()})


if __name__ == "__main__":
    main()
