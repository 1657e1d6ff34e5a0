"""Costs that only a confirming measurement takes, foretold from what the screen saw.

A soak or a power phase lasts minutes, too long for models that are only screened. Energy and
sustained latency follow latency closely enough to choose by: the ratio of the two is that of the
models that were confirmed, the baseline first of all. Power is that of those models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from vitsearch.core.metrics import split
from vitsearch.core.record import Values

PROXIES: Mapping[str, str | None] = {
    "energy_mj": "latency_ms_p50",
    "latency_ms_sustained_p50": "latency_ms_p50",
    "latency_ms_p95": "latency_ms_p50",
    "power_w": None,
}
"""What a metric is in proportion to; None: to nothing, it is about the same for all."""


def foretold(objectives: Iterable[str], screen: Values, confirmed: Iterable[Values]) -> Values:
    """``screen`` with the objectives that it lacks; one that cannot be foretold yet is still None."""
    known = list(confirmed)
    return screen | {name: _foretold(name, screen, known) for name in objectives if screen.get(name) is None}


def _foretold(name: str, screen: Values, known: list[Values]) -> float | None:
    metric = split(name)[0].name
    proxy = PROXIES.get(metric)
    seen = _cost(screen, proxy)
    if metric not in PROXIES or seen is None:
        return None
    ratios = [
        value / cost for values in known if (value := values.get(name)) is not None and (cost := _cost(values, proxy))
    ]
    return median(ratios) * seen if ratios else None


def _cost(values: Values, proxy: str | None) -> float | None:
    return 1.0 if proxy is None else values.get(proxy)
