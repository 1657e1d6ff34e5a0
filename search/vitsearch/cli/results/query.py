"""What the options of `vitsearch front` ask for. It imports nothing, so that help stays fast."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """How models are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    PERF_YAML = "perf-yaml"


@dataclass(frozen=True)
class Query:
    """Which models are printed: all or those of the front, a condition, an order; and the device on which they were
    measured, None for that of the study."""

    every: bool = False
    where: str | None = None
    sort: str | None = None
    device: str | None = None
