"""The cost of running one stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageCost:
    """CPU-seconds of the worker or the device that ran the stage, and the versions of the libraries that it used."""

    cpu_seconds: float
    versions: dict[str, str]
