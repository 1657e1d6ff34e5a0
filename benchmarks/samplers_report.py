"""Tables and curves of `samplers.py`."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

SHOWN = (10, 20, 40, 60)
OURS, RIVAL = "auto", "gp"
COLOURS = ("#d1495b", "#00798c", "#edae49", "#8d6a9f", "#30638e", "#888888", "#5b8c5a")
PANEL_W, PANEL_H, MARGIN = 300, 230, 46
LOWEST = 0.3
FEW, RESAMPLES = 8, 10_000
"""With fewer seeds the interval of a mean is Student's, else that of a bootstrap over seeds."""

Curves = dict[tuple[str, str, str], dict[int, list[float]]]
"""(way, data set, sampler) -> seed -> hypervolume after each training."""


def report(lines: Sequence[dict[str, Any]], svg: Path | None, shown: Sequence[int] = SHOWN) -> None:
    curves: Curves = defaultdict(dict)
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in lines:
        curves[line["way"], line["data_set"], line["sampler"]][line["seed"]] = line["hypervolume"]
        seconds[line["way"], line["sampler"]].append(line["cpu_seconds"])
    for way in sorted({way for way, _, _ in curves}):
        samplers = list(dict.fromkeys(sampler for of, _, sampler in curves if of == way))
        print(f"\n{way}, mean over the data sets; in brackets the 95 % interval of ours minus this, paired by seed\n")
        print(
            "| sampler | seeds | " + " | ".join(map(str, shown)) + " | CPU s |\n|---|---|" + "---|" * (len(shown) + 1)
        )
        for sampler in samplers:
            cells = [cell(curves, way, sampler, samplers, at) for at in shown]
            count = len(per_seed(curves, way, sampler))
            spent = statistics.mean(seconds[way, sampler])
            print(f"| {sampler} | {count} | " + " | ".join(cells) + f" | {spent:.1f} |")
        by_data_set(curves, way, samplers, shown[1:])
    if svg is not None:
        svg.write_text(drawing(curves))


def cell(curves: Curves, way: str, sampler: str, samplers: Sequence[str], at: int) -> str:
    own = {seed: curve for seed, curve in per_seed(curves, way, sampler).items() if len(curve) >= at}
    if not own:
        return "-"
    mean = statistics.mean(curve[at - 1] for curve in own.values())
    ours = per_seed(curves, way, OURS) if OURS in samplers else {}
    differences = [ours[seed][at - 1] - own[seed][at - 1] for seed in own if len(ours.get(seed, ())) >= at]
    if sampler == OURS or len(differences) < 2:
        return f"{mean:.3f}"
    low, high = interval(differences)
    return f"{mean:.3f} ({low:+.3f}, {high:+.3f})"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean."""
    if len(values) < FEW:
        middle, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
        half = float(stats.t.ppf(0.975, len(values) - 1)) * error
        return middle - half, middle + half
    means = np.random.default_rng(0).choice(np.array(values), (RESAMPLES, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def per_seed(curves: Curves, way: str, sampler: str) -> dict[int, list[float]]:
    """The mean curve over the data sets of each seed that has them all."""
    of = [seeds for (w, _, s), seeds in curves.items() if (w, s) == (way, sampler)]
    every = set.intersection(*(set(seeds) for seeds in of))
    return {seed: np.mean([seeds[seed] for seeds in of], axis=0).tolist() for seed in sorted(every)}


def even(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """A row for each curve, as long as the shortest."""
    shortest = min(map(len, curves))
    return np.array([curve[:shortest] for curve in curves])


def by_data_set(curves: Curves, way: str, samplers: Sequence[str], shown: Sequence[int]) -> None:
    data_sets = list(dict.fromkeys(data_set for of, data_set, _ in curves if of == way))
    print(f"\n{way}: @{' / @'.join(map(str, shown))}; trainings until the mean curve is at .85 and .90\n")
    print("| sampler | " + " | ".join(data_sets) + " |\n|---|" + "---|" * len(data_sets))
    for sampler in samplers:
        cells = []
        for data_set in data_sets:
            of = curves[way, data_set, sampler]
            mean = even([of[seed] for seed in per_seed(curves, way, sampler)]).mean(0)
            reached = [next((str(i + 1) for i, v in enumerate(mean) if v >= level), "-") for level in (0.85, 0.90)]
            values = " / ".join(f"{mean[at - 1]:.3f}" if at <= len(mean) else "-" for at in shown)
            cells.append(f"{values}; {reached[0]}, {reached[1]}")
        print(f"| {sampler} | " + " | ".join(cells) + " |")


def drawing(curves: Curves) -> str:
    """One panel per way and data set: mean curves with their 95 % bands."""
    ways = sorted({way for way, _, _ in curves})
    data_sets = list(dict.fromkeys(data_set for _, data_set, _ in curves))
    samplers = list(dict.fromkeys(sampler for _, _, sampler in curves))
    colours = dict(zip(samplers, COLOURS, strict=False))
    width, height = MARGIN + PANEL_W * len(data_sets), (PANEL_H + MARGIN) * len(ways) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="11" '
        'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for row, way in enumerate(ways):
        for column, data_set in enumerate(data_sets):
            left, top = MARGIN + column * PANEL_W, 24 + row * (PANEL_H + MARGIN)
            of = {s: even(list(curves[way, data_set, s].values())) for s in samplers if curves[way, data_set, s]}
            if of:
                parts.append(panel(f"{data_set}, {way}", of, colours, left, top))
    for i, sampler in enumerate(samplers):
        at = MARGIN + i * (width - MARGIN) / len(samplers)
        parts.append(f'<rect x="{at}" y="{height - 22}" width="14" height="4" fill="{colours[sampler]}"/>')
        parts.append(f'<text x="{at + 18}" y="{height - 16}">{sampler}</text>')
    return "\n".join([*parts, "</svg>\n"])


def panel(title: str, curves: dict[str, np.ndarray], colours: dict[str, str], left: float, top: float) -> str:
    wide = PANEL_W - 30
    lowest = min(LOWEST, math.floor(10 * min(float(values.mean(0).min()) for values in curves.values())) / 10)
    longest = max(values.shape[1] for values in curves.values())

    def line(values: np.ndarray) -> str:
        heights = top + PANEL_H * (1 - (np.clip(values, lowest, 1) - lowest) / (1 - lowest))
        return " ".join(f"{left + wide * i / (longest - 1):.1f},{y:.1f}" for i, y in enumerate(heights))

    parts = [f'<text x="{left}" y="{top - 8}" font-weight="600">{title}</text>']
    for level in (0.4, 0.6, 0.8, 0.9, 1.0):
        y = top + PANEL_H * (1 - (level - lowest) / (1 - lowest))
        parts.append(
            f'<path d="M{left} {y:.1f}h{wide}" stroke="#ddd"/><text x="{left - 24}" y="{y + 4:.1f}">{level}</text>'
        )
    for at in range(0, longest + 1, 20):
        parts.append(f'<text x="{left + wide * at / longest - 6:.1f}" y="{top + PANEL_H + 14}">{at}</text>')
    for sampler, values in curves.items():
        mean = values.mean(0)
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
            back = line((mean - half)[::-1]).split(" ")
            xs = [point.split(",")[0] for point in line(mean).split(" ")][::-1]
            below = " ".join(f"{x},{point.split(',')[1]}" for x, point in zip(xs, back, strict=True))
            parts.append(f'<polygon points="{line(mean + half)} {below}" fill="{colours[sampler]}" opacity=".13"/>')
        parts.append(f'<polyline points="{line(mean)}" fill="none" stroke="{colours[sampler]}" stroke-width="1.8"/>')
    return "".join(parts)
