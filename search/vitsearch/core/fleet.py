"""Several classes of devices that run the same model, as a study stores them, and the figures of all of them as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.metrics import METRICS, at_device
from vitsearch_agent.base.canonical_json import digest

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


Ends: TypeAlias = tuple[float, float]


class Rule(Protocol):
    """How the values of one metric become one. The mappings have every device of the fleet, by name."""

    def value(self, values: Mapping[str, float], worst: Callable[..., float]) -> float: ...

    def interval(self, figures: Mapping[str, tuple[float, Ends]], worst: Callable[..., float]) -> Ends:
        """The 95 % interval, from the value and the interval of each device."""
        ...


@dataclass(frozen=True)
class Worst:
    """The device that is worst decides."""

    def value(self, values: Mapping[str, float], worst: Callable[..., float]) -> float:
        return worst(values.values())

    def interval(self, figures: Mapping[str, tuple[float, Ends]], worst: Callable[..., float]) -> Ends:
        return worst(low for _, (low, _) in figures.values()), worst(high for _, (_, high) in figures.values())


@dataclass(frozen=True)
class Weighted:
    """The mean over the devices. `shares` are positive; their sum is taken as the whole."""

    shares: Mapping[str, float]

    def value(self, values: Mapping[str, float], worst: Callable[..., float]) -> float:
        mean = math.fsum(share * values[name] for name, share in self._of_whole())
        return min(max(mean, min(values.values())), max(values.values()))  # rounding never leaves their range

    def interval(self, figures: Mapping[str, tuple[float, Ends]], worst: Callable[..., float]) -> Ends:
        middle = self.value({name: value for name, (value, _) in figures.items()}, worst)
        spread = {name: (value - low, high - value) for name, (value, (low, high)) in figures.items()}
        below, above = (math.hypot(*(share * spread[name][end] for name, share in self._of_whole())) for end in (0, 1))
        return middle - below, middle + above

    def _of_whole(self) -> list[tuple[str, float]]:
        whole = math.fsum(self.shares.values())
        return [(name, share / whole) for name, share in self.shares.items()]


def combined(of_devices: Mapping[str, Metrics], rule: Rule) -> Metrics:
    """The figures of a fleet: those of its devices as `cpu_ms_p50@nano`, and `cpu_ms_p50` made of them.

    A figure that one device lacks has no value for the fleet, with the reason of that device; it has an interval where
    every device has one.
    """
    names = dict.fromkeys(name for metrics in of_devices.values() for name in metrics.figures)
    figures: dict[str, Figure] = {}
    for name in names:
        by_device = {device: metrics.figures.get(name, _NOT_ASKED) for device, metrics in of_devices.items()}
        figures[name] = _figure(name, by_device, rule)
        figures |= {at_device(name, device): figure for device, figure in by_device.items()}
    return Metrics(figures)


_NOT_ASKED = Figure(None, reason="it was not measured there")


def _figure(name: str, by_device: Mapping[str, Figure], rule: Rule) -> Figure:
    for device, figure in by_device.items():
        if figure.value is None:
            return Figure(None, reason=f"device {device}: {figure.reason}")
    worst: Callable[..., float] = max if METRICS[name].direction == "minimize" else min
    values = {device: figure.value for device, figure in by_device.items() if figure.value is not None}
    ends = {
        device: (figure.value, (figure.low, figure.high))
        for device, figure in by_device.items()
        if figure.value is not None and figure.low is not None and figure.high is not None
    }
    low, high = rule.interval(ends, worst) if len(ends) == len(by_device) else (None, None)
    notes = [f"device {device}: {figure.note}" for device, figure in by_device.items() if figure.note is not None]
    return Figure(rule.value(values, worst), low, high, note="; ".join(notes) or None)
