"""Draw the curves of `driver_cost.py`: milliseconds of CPU time a trial against the trials that were told.

python benchmarks/driver_cost_curves.py FILE SVG
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

PANEL_W, PANEL_H, MARGIN = 330, 250, 52
COLOURS = ("#d1495b", "#00798c", "#edae49")
TRIALS, MS = (10, 10_000), (10, 1_000)
"""The ends of the axes, which are logarithmic."""
GOAL_MS = 20


def drawing(lines: list[dict[str, Any]]) -> str:
    """A panel for each kind of database, a curve for each driver."""
    databases = list(dict.fromkeys(line["database"] for line in lines))
    colours = dict(zip(dict.fromkeys(line["driver"] for line in lines), COLOURS, strict=False))
    width, height = MARGIN + (PANEL_W + MARGIN) * len(databases), PANEL_H + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="11" '
        'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for column, database in enumerate(databases):
        of = [line for line in lines if line["database"] == database]
        parts.append(panel(database, of, colours, MARGIN + column * (PANEL_W + MARGIN), 30))
    for i, (driver, colour) in enumerate(colours.items()):
        at = MARGIN + i * (width - MARGIN) / len(colours)
        parts.append(f'<rect x="{at}" y="{height - 20}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{at + 18}" y="{height - 14}">{driver}</text>')
    return "\n".join([*parts, "</svg>\n"])


def panel(title: str, lines: list[dict[str, Any]], colours: dict[str, str], left: float, top: float) -> str:
    def x(trials: float) -> float:
        return left + PANEL_W * math.log(trials / TRIALS[0]) / math.log(TRIALS[1] / TRIALS[0])

    def y(ms: float) -> float:
        return top + PANEL_H * (1 - math.log(ms / MS[0]) / math.log(MS[1] / MS[0]))

    parts = [f'<text x="{left}" y="{top - 10}" font-weight="600">{title}: CPU ms a trial, start included</text>']
    for ms in (10, 20, 40, 100, 400, 1000):
        dashes = ' stroke-dasharray="4 3"' if ms == GOAL_MS else ""
        parts.append(f'<path d="M{left} {y(ms):.1f}h{PANEL_W}" stroke="#ccc"{dashes}/>')
        parts.append(f'<text x="{left - 6}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms}</text>')
    for trials in (10, 100, 1000, 10_000):
        parts.append(f'<text x="{x(trials):.1f}" y="{top + PANEL_H + 16}" text-anchor="middle">{trials:,}</text>')
    for line in lines:
        points = [(trials, ms) for trials, ms in line["curve"] if trials >= TRIALS[0] and ms <= MS[1]]
        drawn = " ".join(f"{x(trials):.1f},{y(ms):.1f}" for trials, ms in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colours[line["driver"]]}" stroke-width="1.8"/>')
    return "".join(parts)


def main() -> None:
    lines, svg = map(Path, sys.argv[1:])
    svg.write_text(drawing([json.loads(line) for line in lines.read_text().splitlines()]))


if __name__ == "__main__":
    main()
