"""The figures of trials as they are known now: a graph is measured several times, also after its trial has ended."""

from __future__ import annotations

from vitsearch.core.figures import Metrics
from vitsearch.core.record import Keys, Record
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.pooled import PooledMeasurement


class CurrentFigures:
    """The figures of a study's models with all measurements of their graphs pooled."""

    def __init__(self, ledger: Ledger, threads: int) -> None:
        self._ledger = ledger
        self._threads = threads
        self._devices: dict[str, DeviceResults] = {}

    def pooled(self, keys: Keys) -> PooledMeasurement | None:
        """All measurements of a graph on its device as one; None where the ledger has none."""
        if keys.device_id not in self._devices:
            self._devices[keys.device_id] = DeviceResults(self._ledger, keys.device_id, self._threads)
        return self._devices[keys.device_id].pooled(keys.graph_key)

    def now(self, record: Record) -> tuple[Metrics, tuple[str, ...]]:
        """The figures of a trial, and the flags that all of its measurements have."""
        found = None if record.keys is None else self.pooled(record.keys)
        return (record.metrics, ()) if found is None else (record.metrics | found.metrics, found.flags)
