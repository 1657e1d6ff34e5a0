"""What a run does now, as it stores it for `vitsearch status` of any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RunState:
    """`doing` are the stages that take long, each with how far it is, `waits` what the run waits for, if it does;
    all in words."""

    doing: Mapping[str, str] = field(default_factory=dict)
    waits: str | None = None
