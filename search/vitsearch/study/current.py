"""The figures of trials as they are known now: a graph is measured several times, also after its trial has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Keys, Record
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.pooled import PooledMeasurement

NOTHING_READ: Mapping[str, DeviceResults] = {}


class CurrentFigures:
    """The figures of a study's models with all measurements of their graphs pooled."""

    def __init__(self, ledger: Ledger, threads: int, devices: Mapping[str, DeviceResults] = NOTHING_READ) -> None:
        """``devices`` are results that somebody keeps up to date, by the id of their device."""
        self._ledger = ledger
        self._threads = threads
        self._devices = dict(devices)

    def read(self, all_keys: Iterable[Keys]) -> None:
        """Read the measurements of these models at once; of others each is read when it is asked for."""
        by_device: dict[str, dict[str, None]] = {}
        for keys in all_keys:
            by_device.setdefault(keys.device_id, {})[keys.graph_key] = None
        for device_id, graphs in by_device.items():
            self._results(device_id).read(list(graphs))

    def pooled(self, keys: Keys) -> PooledMeasurement | None:
        """All measurements of a graph on its device as one; None where the ledger has none."""
        return self._results(keys.device_id).pooled(keys.graph_key)

    def _results(self, device_id: str) -> DeviceResults:
        if device_id not in self._devices:
            self._devices[device_id] = DeviceResults(self._ledger, device_id, self._threads)
        return self._devices[device_id]

    def now(self, record: Record) -> tuple[Metrics, tuple[str, ...]]:
        """The figures of a trial, and the flags that all of its measurements have."""
        found = None if record.keys is None else self.pooled(record.keys)
        return (record.metrics, ()) if found is None else (record.metrics | found.metrics, found.flags)
