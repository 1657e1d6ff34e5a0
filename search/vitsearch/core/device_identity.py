"""Which device a name of a study stands for: measurements of two devices do not compare.

An identity is the id that the agent stores in its state folder, and what the hardware says of itself. A study keeps the
identity of each of its names from the first measurement on, and with it those that a person has accepted as the same
device (`vitsearch devices accept`). The first of them gives its id to all measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitsearch_agent.wire.hardware import MACHINE_ID
from vitsearch_agent.wire.protocol import DeviceInfo, Hardware

CLASS = "class-"
"""The id of a pool begins with it: it is that of the class of its boards."""
SHORT_ID = 8


@dataclass(frozen=True)
class DeviceIdentity:
    """A device, or a class of boards. `kind` is `physical` or `emulated`."""

    device_id: str
    kind: str
    hardware: Hardware

    @classmethod
    def of(cls, info: DeviceInfo) -> DeviceIdentity:
        return cls(info.device_id, info.kind, info.hardware)

    @property
    def is_class(self) -> bool:
        return self.device_id.startswith(CLASS)

    def differences(self, other: DeviceIdentity) -> tuple[str, ...]:
        """What shows that the two are not the same hardware; empty where nothing does."""
        if self.is_class or other.is_class:
            return () if self.device_id == other.device_id else ("class of the boards",)
        kinds = () if self.kind == other.kind else ("kind",)
        return kinds + self.hardware.differences(other.hardware)

    def is_same(self, other: DeviceIdentity) -> bool:
        return self.device_id == other.device_id and not self.differences(other)

    def may_be_same(self, other: DeviceIdentity) -> bool:
        """Whether only the agent's state is another one, or the operating system: a person knows."""
        return set(self.differences(other)) <= {MACHINE_ID}

    def label(self, name: str) -> str:
        """`nano@jetson-3`: the name with the host, where that says more."""
        host = self.hardware.host
        return name if not host or host == name else f"{name}@{host}"

    def describe(self, name: str) -> str:
        """In words: name and host, board, processor, the beginning of the id."""
        kind = "EMULATED, " if self.kind == "emulated" else ""
        short = self.device_id.removeprefix(CLASS).removeprefix("emu-")[:SHORT_ID]
        what = "boards of one class: " if self.is_class else ""
        return f"{self.label(name)}: {kind}{what}{self.hardware.describe()}, id {short}"

    def to_json(self) -> dict[str, Any]:
        return {"device_id": self.device_id, "kind": self.kind, "hardware": self.hardware.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DeviceIdentity:
        return cls(value["device_id"], value["kind"], Hardware.from_json(value["hardware"]))


@dataclass(frozen=True)
class NamedDevice:
    """What a name of a study stands for: `identities` are the one that measured first and those that were accepted
    later as the same device."""

    name: str
    identities: tuple[DeviceIdentity, ...]

    @property
    def device_id(self) -> str:
        """That of its measurements."""
        return self.identities[0].device_id

    @property
    def latest(self) -> DeviceIdentity:
        return self.identities[-1]

    @property
    def label(self) -> str:
        return self.latest.label(self.name)

    def is_same(self, answering: DeviceIdentity) -> bool:
        return any(identity.is_same(answering) for identity in self.identities)

    def may_be_same(self, answering: DeviceIdentity) -> bool:
        return any(identity.may_be_same(answering) for identity in self.identities)

    def differences(self, answering: DeviceIdentity) -> tuple[str, ...]:
        """What shows that `answering` is other hardware than the one that was here last."""
        return self.latest.differences(answering)

    def to_json(self) -> list[dict[str, Any]]:
        return [identity.to_json() for identity in self.identities]


def stored_devices(attributes: Mapping[str, Any]) -> dict[str, NamedDevice]:
    """The devices among the attributes of a study, by name."""
    return {
        name: NamedDevice(name, tuple(map(DeviceIdentity.from_json, identities)))
        for name, identities in (attributes.get("devices") or {}).items()
    }
