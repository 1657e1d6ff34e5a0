"""One name in a study is one device: a study goes on only with the device that measured for it before.

the device of before               it goes on
another id, the same hardware      refused until a person says that it is the same: `vitsearch devices accept`
everything else                    refused, with both identities and what can be done
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from vitsearch.core.device_identity import DeviceIdentity, NamedDevice
from vitsearch.errors import StudyError, UnknownName
from vitsearch.space import LOCAL_DEVICE
from vitsearch.storage.stage_cost import DEVICE


class HasDevices(Protocol):
    """What is needed of `vitsearch.study.study.Study`."""

    @property
    def name(self) -> str: ...

    @property
    def devices(self) -> Mapping[str, NamedDevice]: ...

    def change(self, key: str, change: Callable[[Any], Any]) -> Any: ...


def recognize_device(study: HasDevices, name: str, identity: DeviceIdentity, where: str) -> str:
    """The id under which a study keeps the measurements of the device that answers under a name. `where` is what a
    person types to name the study.

    Raises `StudyError` where it is not the one that measured under that name before.
    """
    device = study.devices.get(name)
    if device is None:
        return identity.device_id
    if not device.is_same(identity):
        raise StudyError(_refusal(study.name, device, identity, where))
    return device.device_id


def adopt_device(study: HasDevices, name: str, identity: DeviceIdentity, where: str) -> None:
    """Store what a name stands for, at its first measurement. Another driver may have been faster, with another device:
    raises as `recognize_device`."""
    if name not in study.devices:
        study.change("devices", lambda stored: {name: [identity.to_json()], **(stored or {})})
    recognize_device(study, name, identity, where)


def accept_device(study: HasDevices, name: str, identity: DeviceIdentity, where: str) -> bool:
    """Remember that a device is the one that measured under its name before; False where the study knows it already.

    Raises `StudyError` where the hardware is another one, and
    `UnknownName` for a device that has measured nothing.
    """
    if name not in study.devices:
        raise UnknownName(f"device that measured for study {study.name!r}", name, sorted(study.devices))
    device = study.devices[name]
    if device.is_same(identity):
        return False
    if not device.may_be_same(identity):
        raise StudyError(_refusal(study.name, device, identity, where))
    accepted = identity.to_json()
    study.change("devices", lambda stored: {**stored, name: [*stored[name], accepted]})
    return True


def refuse_other_names(study: HasDevices, before: tuple[str, ...], now: tuple[str, ...]) -> None:
    """Raise `StudyError` where a space file names other devices than those that have measured
    for the study."""
    measured = [study.devices[name] for name in before if name in study.devices]
    if before == now or not measured:
        return
    lines = [
        f"study {study.name!r} was measured on other devices than the space file has now, and measurements of two "
        f"devices do not compare. What differs: devices: {', '.join(before)} -> {', '.join(now)}",
        *(f"  measured on  {device.latest.describe(device.name)}" for device in measured),
        "If it is the same device, keep its name: devices: {NAME: URL}. Otherwise:",
        *_ways_on(f"vitsearch retarget STUDY --device {now[0]}"),
    ]
    raise StudyError("\n".join(lines))


def shown_worker(ran_on: str, devices: Mapping[str, NamedDevice]) -> str:
    """Where a stage ran, for a person: `device nano` is `device nano@HOST`."""
    device = devices.get(ran_on.removeprefix(DEVICE)) if ran_on.startswith(DEVICE) else None
    return ran_on if device is None else f"{DEVICE}{device.label}"


def shown_target(name: str, devices: Mapping[str, NamedDevice]) -> str:
    """A device, or a target of `vitsearch retarget`, for a person: `nano+threads2` is `nano@HOST+threads2`."""
    device, plus, changes = name.partition("+")
    named_device = devices.get(device)
    return name if named_device is None else f"{named_device.label}{plus}{changes}"


def _refusal(study: str, device: NamedDevice, identity: DeviceIdentity, where: str) -> str:
    name, both = device.name, (device.latest, identity)
    identities = (
        f"  measured on  {device.latest.describe(name)}",
        f"  found now    {identity.describe(name)}",
    )
    if device.may_be_same(identity):
        differing = device.differences(identity)
        seen = f"the {differing[0]} is another one" if differing else "its hardware is the same, as far as it says"
        return "\n".join(
            [
                f"study {study!r}: the agent of device {name} has another id than the one that measured; {seen}",
                *identities,
                "If it is the same device (its agent was installed again, or runs in a new container):",
                f"  vitsearch devices accept {shlex.join([name, where])}",
                "Otherwise:",
                *_ways_on(_retarget(where, device)),
            ]
        )
    differing = device.differences(identity) or ("id",)
    if differing == ("kind",):
        seen = f"that one is {both[0].kind}, this one {both[1].kind}"
    else:
        seen = f"it differs by {' and '.join(differing)}"
    return "\n".join(
        [
            f"study {study!r}: {name} is another device than the one that measured, and measurements of two devices "
            f"do not compare ({seen})",
            *identities,
            *_ways_on(_retarget(where, device)),
        ]
    )


def _retarget(where: str, device: NamedDevice) -> str:
    """The commands that measure the models of a study on the device that was found, which has no other name yet."""
    start = "vitsearch-agent serve, and then " if device.name == LOCAL_DEVICE else ""
    return f"{start}vitsearch devices add URL NEW_NAME; vitsearch retarget {shlex.quote(where)} --device NEW_NAME"


def _ways_on(retarget: str) -> list[str]:
    return [
        f"  to measure its models here: {retarget}",
        "  to search here: another name in the space file (study: NAME)",
        "  to search on several boards of one class: a pool, in a study of its own (devices: {NAME: [URL, URL]})",
    ]
