"""Spans of time, as pairs of from and to."""

from __future__ import annotations

from collections.abc import Iterable


def union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The times that at least one of the spans covers, in order; none of them touch."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found
