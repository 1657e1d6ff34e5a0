"""The figures of trials as they are known now: a graph is measured several times, also after its trial has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet
from vitsearch.core.record import Keys, Record
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.pooled_measurements import FleetPool, PooledMeasurement

NO_FLEETS: Mapping[str, Fleet] = MappingProxyType({})
NOTHING_READ: Mapping[str, DeviceResults] = MappingProxyType({})


class CurrentFigures:
    """The figures of a study's models with all measurements of their graphs pooled. `fleets` are those of the study,
    by the id that stands for them in the keys of its trials."""

    def __init__(
        self,
        ledger: Ledger,
        fleets: Mapping[str, Fleet] = NO_FLEETS,
        devices: Mapping[str, DeviceResults] = NOTHING_READ,
    ) -> None:
        """`devices` are results that somebody keeps up to date, by the id of their device."""
        self._ledger = ledger
        self._fleets = fleets
        self._pools = {device_id: FleetPool(fleet) for device_id, fleet in fleets.items()}
        self._devices = dict(devices)

    def read(self, all_keys: Iterable[Keys]) -> None:
        """Read the measurements of these models at once; of others each is read when it is asked for."""
        by_device: dict[str, dict[str, None]] = {}
        for keys in all_keys:
            for device_id in devices_of(keys, self._fleets).values():
                by_device.setdefault(device_id, {})[keys.graph_key] = None
        for device_id, graphs in by_device.items():
            self._on(device_id).read(list(graphs))

    def pooled(self, keys: Keys) -> PooledMeasurement | None:
        """All measurements of a graph on its device as one; None where the ledger has none. For a fleet, its figures
        and those of each of its devices."""
        fleet = self._fleets.get(keys.device_id)
        if fleet is None:
            return self._on(keys.device_id).pooled(keys.graph_key)
        by_device = {name: self._on(member.device_id).pooled(keys.graph_key) for name, member in fleet.members.items()}
        return self._pools[keys.device_id].of(keys.graph_key, by_device)

    def now(self, record: Record) -> tuple[Metrics, tuple[str, ...]]:
        """The figures of a trial, and the flags that all of its measurements have."""
        pooled = None if record.keys is None else self.pooled(record.keys)
        return (record.metrics, ()) if pooled is None else (record.metrics | pooled.metrics, pooled.flags)

    def _on(self, device_id: str) -> DeviceResults:
        if device_id not in self._devices:
            self._devices[device_id] = DeviceResults(self._ledger, device_id)
        return self._devices[device_id]


def devices_of(keys: Keys, fleets: Mapping[str, Fleet]) -> dict[str, str]:
    """The ids of the devices that measured a trial, by name: of a fleet its devices, else the one of its keys, whose
    name is empty."""
    fleet = fleets.get(keys.device_id)
    if fleet is None:
        return {"": keys.device_id}
    return {name: member.device_id for name, member in fleet.members.items()}
