"""Devices of several classes on which every model is measured: each has its own queue, and all of them work at once.

A fleet measures nothing by itself. Each of its devices is asked for its own measurements, which the ledger keeps under
that device, and `vitsearch.core.fleet` makes the figures of the fleet of them. So a device that was measured once
is never measured again because another one joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitsearch.core.fleet import FLEET, fleet_id
from vitsearch.devices.agent_device import Device, DeviceGroup, Outage
from vitsearch.devices.availability import WaitingDevice
from vitsearch.errors import ResourceError
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.wire.protocol import DeviceInfo


class FleetDevice:
    """A `DeviceGroup` of several devices, whose names differ."""

    name = FLEET

    def __init__(self, devices: Sequence[Device]) -> None:
        """Raises `ResourceError` where two of them are the same device, or one is emulated and another not."""
        self.devices = tuple(devices)
        _refuse_equal(self.devices)
        _refuse_mixed_kinds(self.devices)

    @property
    def info(self) -> DeviceInfo:
        """That of the first device, with ids that stand for all of them."""
        environments = {device.name: device.info.environment_id for device in self.devices}
        return self.devices[0].info._replace(
            device_id=fleet_id({device.name: device.info.device_id for device in self.devices}),
            environment_id=digest({FLEET: environments}),
        )

    @property
    def parallel(self) -> int:
        """As many models at a time as the device that takes most of them; for the others they wait."""
        return max(device.parallel for device in self.devices)

    @property
    def outage(self) -> Outage | None:
        """The one that began first: without any of its devices a fleet measures no model."""
        outages = [device.outage for device in self.devices if device.outage is not None]
        return min(outages, key=lambda outage: outage.since_s) if outages else None

    async def waits_in_queue(self) -> str | None:
        for device in self.devices:
            if text := await device.waits_in_queue():
                return text
        return None

    def close(self) -> None:
        for device in self.devices:
            device.close()


class WaitingFleet(FleetDevice):
    """The fleet of a run. Each device waits through its own outages."""

    def __init__(self, devices: Sequence[WaitingDevice]) -> None:
        super().__init__(devices)
        self._waiting = tuple(devices)

    @property
    def is_unavailable(self) -> bool:
        return self.outage is not None

    @property
    def unavailable(self) -> str | None:
        """The name of the device whose outage began first; None when all of them answer."""
        outage = self.outage
        return next((device.name for device in self._waiting if outage is not None and device.outage == outage), None)

    def waits(self) -> str | None:
        """A message about each device that does not answer."""
        return "; ".join(filter(None, (device.waits() for device in self._waiting))) or None


def waiting(group: DeviceGroup, others_work: Callable[[], bool]) -> WaitingDevice | WaitingFleet:
    """The device or fleet of a run; `others_work` as for `WaitingDevice`."""
    devices = [WaitingDevice(device, others_work) for device in group.devices]
    return devices[0] if len(devices) == 1 else WaitingFleet(devices)


def _refuse_equal(devices: Sequence[Device]) -> None:
    names: dict[str, str] = {}
    for device in devices:
        other = names.setdefault(device.info.device_id, device.name)
        if other != device.name:
            raise ResourceError(f"devices: {other} and {device.name} are the same device")


def _refuse_mixed_kinds(devices: Sequence[Device]) -> None:
    first = devices[0]
    for device in devices[1:]:
        if device.info.kind != first.info.kind:
            raise ResourceError(
                f"devices: {first.name} is {first.info.kind} and {device.name} is {device.info.kind}, so their "
                "measurements do not compare"
            )
