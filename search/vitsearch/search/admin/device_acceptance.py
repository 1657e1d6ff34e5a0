"""`vitsearch devices accept`: a person says that a device is the one that measured for a study before."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from vitsearch.core.device_identity import DeviceIdentity
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import UnknownName
from vitsearch.search.open_device import connected, cores_kept_free
from vitsearch.space import load
from vitsearch.study import lookup
from vitsearch.study.devices import accept_device
from vitsearch.study.retargeted import Target


@dataclass(frozen=True)
class Accepted:
    """The device `name` of a study. `before` is None where the study knew it already as it is `now`."""

    study: str
    name: str
    before: DeviceIdentity | None
    now: DeviceIdentity


def accept(where: str, name: str, note: Callable[[str], None]) -> Accepted:
    """Ask the device that answers under a name of a study who it is, and remember it as the one that measured before.

    Raises `StudyError` where its hardware is another one. `note` gets a line about others
    that measure on this machine.
    """
    with lookup.opened_to_change(where) as (study, _):
        if name not in study.devices:
            raise UnknownName(f"device that measured for study {study.name!r}", name, sorted(study.devices))
        before = study.devices[name].latest
        newer = load(where).space.devices if where.endswith((".yaml", ".yml")) else {}
        remember_destinations(newer, os.environ)
        storage = lookup.find(where).storage
        space = Target(name).space(study.space(), newer).model_copy(update={"storage": storage})
        with cores_kept_free(space) as cores, connected(space, cores, note) as (device,):
            now = DeviceIdentity.of(device.info)
        is_new = accept_device(study, name, now, where)
        return Accepted(study.name, name, before if is_new else None, now)
