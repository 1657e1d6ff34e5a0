"""Spans of time, as pairs of from and to."""

from __future__ import annotations

from collections.abc import Iterable


def union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The times that at least one of the spans covers, in order; none of them touch."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def total_s(spans: Iterable[tuple[float, float]]) -> float:
    """The sum of the lengths of spans in seconds; that of a `union` counts no time twice."""
    return sum(end - start for start, end in spans)
