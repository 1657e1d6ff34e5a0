"""The devices of a fleet, as a study stores them: their measurements are found again without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.figures import Metrics
from vitsearch.core.fleet.combine import Rule, Weighted, Worst, combined
from vitsearch_evaluators.base.canonical_json import digest

FLEET = "fleet"
"""The name of the device of a study that has several: in plans, tables and messages."""


@dataclass(frozen=True)
class Member:
    """A device of a fleet: its id, and the id of the protocol that confirms its measurements."""

    device_id: str
    protocol: str


@dataclass(frozen=True)
class Fleet:
    """`members` by the names in the space file; `weights` by the same names, None for the worst case."""

    members: Mapping[str, Member]
    weights: Mapping[str, float] | None = None

    @property
    def device_id(self) -> str:
        """Differs between fleets of other devices."""
        return fleet_id({name: member.device_id for name, member in self.members.items()})

    @property
    def rule(self) -> Rule:
        return Worst() if self.weights is None else Weighted(self.weights)

    def combined(self, of_devices: Mapping[str, Metrics]) -> Metrics:
        """The figures of the fleet, and those of its devices under their names."""
        return combined(of_devices, self.rule)

    def to_json(self) -> dict[str, Any]:
        members = {name: asdict(member) for name, member in self.members.items()}
        return {"members": members, "weights": None if self.weights is None else dict(self.weights)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fleet:
        return cls({name: Member(**member) for name, member in value["members"].items()}, value["weights"])


def stored_fleets(attributes: Mapping[str, Any]) -> dict[str, Fleet]:
    """The fleets among the attributes of a study, by device id."""
    return {key: Fleet.from_json(value) for key, value in (attributes.get("fleets") or {}).items()}


def fleet_id(devices: Mapping[str, str]) -> str:
    """The device id of a fleet, from those of its devices by their names."""
    return digest({FLEET: dict(devices)})[:32]
