"""What a stage cost whoever made it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageCost:
    """CPU-seconds of the worker or the device, and the versions of the libraries that it used."""

    cpu_seconds: float
    versions: dict[str, str]
