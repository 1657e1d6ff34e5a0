"""What our own table holds, and how well rung 0 predicts a fine-tune of three families, from the table itself.

    python benchmarks/own_table_report.py [FILE] [--table second]

The fine-tune is that of the table: 3 epochs of 64 steps in two rungs, which is 192 steps (second: of 48, 144). What is
predicted of a shape is predicted from the others. Kendall's tau-b with the 95 % interval of a bootstrap over shapes;
the CPU of rung 0 is that of the refit and of the holdout that judges it.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from own_table_data import OwnTable
from own_table_forecasts import Line
from own_table_plans import TABLES, choose, chosen, every_plan
from own_table_rows import Built
from scipy import stats

RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--table", choices=TABLES, default="own")
    options = parser.parse_args()
    choose(options.table)
    own_table = OwnTable.read(options.file)
    contents(own_table)
    if chosen().is_completed:
        forecasts(own_table)
    taus(own_table)


def contents(own_table: OwnTable) -> None:
    print(f"{own_table.about}\n")
    print("| backbone | shapes | built | of them measured | files measured | trained | files that crash |")
    print("|---|---|---|---|---|---|---|")
    for backbone in [*backbones_of(own_table), "all"]:
        mine = [shape for shape in own_table.shapes.values() if backbone in (shape.backbone, "all")]
        built, measured = sum(shape.built for shape in mine), sum(bool(shape.times) for shape in mine)
        files, trained = sum(len(shape.times) for shape in mine), sum(shape in own_table.trained for shape in mine)
        failed = sum("failed" in file for shape in mine for file in shape.files.values())
        failed += sum(len(shape.crashed) for shape in mine)
        print(f"| {backbone} | {len(mine)} | {built} | {measured} | {files} | {trained} | {failed} |")
    plans = every_plan()
    costs = [
        own_table.cost(shape, f"{p.deployment.runtime} {p.deployment.precision}")
        for p in plans
        if (shape := own_table.of(p))
    ]
    print(f"\n{len(plans)} plans, {sum(cost is not None for cost in costs)} of them run, ", end="")
    print(f"the cost of {sum(cost is not None and cost.measured for cost in costs)} is that of a measured file")
    visits = [times for shape in own_table.shapes.values() for times in shape.times.values()]
    apart = [abs(a[1] - b[1]) / math.sqrt(2) for a, b, *_ in visits]
    print(f"standard deviation of a visit, by the median difference of both: {statistics.median(apart) / 0.674:.1%}")


def forecasts(own_table: OwnTable) -> None:
    print("\n| accuracy after | forecast | leave-one-out error |\n|---|---|---|")
    for rung, forecast in own_table.forecasts.items():
        print(f"| {rung} epochs | {forecast.name} | {forecast.error:.4f} |")
    print("\n| predicted of what was not built | error on parts left out |\n|---|---|")
    for (backbone, name), model in own_table.cost_models.items():
        print(f"| log CPU time, {backbone}, {name} | {model.error:.3f} ({model.shapes} files) |")
    for name, error in own_table.completion_errors.items():
        print(f"| {name} | {error:.4f} |")


def left_out(own_table: OwnTable) -> dict[str, float]:
    """By shape, the accuracy that the line predicts from all other shapes."""
    pairs = [(shape, shape.rungs[-1].validation) for shape in own_table.trained]
    return {shape.key: Line([pair for pair in pairs if pair[0] is not shape]).predict_one(shape) for shape, _ in pairs}


def taus(own_table: OwnTable) -> None:
    predicted = left_out(own_table)
    proxies: dict[str, Callable[[Built], float]] = {
        "KL of rung 0": lambda shape: -shape.kl,
        "accuracy of rung 0": lambda shape: shape.holdout,
        "predicted from rung 0": lambda shape: predicted[shape.key],
        "accuracy after 1 epoch": lambda shape: shape.rungs[0].holdout,
    }
    print(f"\n| shapes | {' | '.join(proxies)} | CPU-s of rung 0 | of the fine-tune | share |")
    print("|---" * (len(proxies) + 4) + "|")
    for backbone in [*backbones_of(own_table), "all"]:
        mine = [shape for shape in own_table.trained if backbone in (shape.backbone, "all")]
        cells = [tau_text([proxy(shape) for shape in mine], mine) for proxy in proxies.values()]
        rung0 = statistics.mean(shape.refit_cpu_s + shape.judge_cpu_s for shape in mine)
        tuned = statistics.mean(sum(rung.cpu_s for rung in shape.rungs) for shape in mine)
        print(f"| {backbone}, {len(mine)} | {' | '.join(cells)} | {rung0:.2f} | {tuned:.1f} | 1/{tuned / rung0:.0f} |")


def tau_text(scores: Sequence[float], shapes: Sequence[Built]) -> str:
    tuned = np.array([shape.rungs[-1].validation for shape in shapes])
    proxy_scores, draw, taus = np.array(scores), np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = draw.integers(len(proxy_scores), size=len(proxy_scores))
        taus.append(float(stats.kendalltau(proxy_scores[rows], tuned[rows]).statistic))
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return f"{stats.kendalltau(proxy_scores, tuned).statistic:.2f} ({low:.2f} to {high:.2f})"


def backbones_of(own_table: OwnTable) -> list[str]:
    return sorted({shape.backbone for shape in own_table.shapes.values()})


if __name__ == "__main__":
    main()
