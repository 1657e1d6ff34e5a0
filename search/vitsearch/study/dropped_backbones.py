"""Backbones of a space that a run does not search, because none of their choices can meet the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

ATTRIBUTE = "dropped_backbones"
"""The attribute of a study that holds them."""


class HasAttributes(Protocol):
    """What is needed of `vitsearch.study.study.Study`."""

    @property
    def attributes(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class DroppedBackbone:
    """A backbone whose base was not trained: it misses a limit in every choice of the space."""

    backbone: str
    """Its name."""
    nearest: str
    """The choice that came nearest to the limits, in one line."""
    miss: str
    """By what that misses them: a metric, its value with the 95 % interval, and the limit."""
    choices: int
    """Choices that were built, and measured where their files alone did not decide."""

    def describe(self) -> str:
        """In one line."""
        only = "its only choice" if self.choices == 1 else f"the nearest of {self.choices} choices"
        return f"{self.backbone} cannot meet the limits: {only}, {self.nearest}, {self.miss}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DroppedBackbone:
        return cls(**value)


def dropped_backbones(study: HasAttributes) -> tuple[DroppedBackbone, ...]:
    """Those of the last run of a study."""
    return tuple(map(DroppedBackbone.from_json, study.attributes.get(ATTRIBUTE, [])))
