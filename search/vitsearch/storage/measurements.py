"""The measurements of a device, shown by the reference times that are known now, and pooled by graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitsearch.core.decoding import decoded
from vitsearch.storage.ledger import Ledger, MeasurementRow, ReferenceKey, StoredTimes
from vitsearch.storage.pooled_measurements import PooledMeasurement, pool
from vitsearch_agent.base.canonical_json import utc_now
from vitsearch_agent.wire.paired import ReferenceTimes
from vitsearch_agent.wire.protocol import Measurement

ONE_BY_ONE = 30
"""Graphs that are read each for itself; who asks for more of them reads all at once."""


@dataclass(frozen=True)
class _KnownTimes:
    """Reference times, and when the measurement began that they came with."""

    times: ReferenceTimes
    started_at: str

    def replaces(self, stored: _KnownTimes) -> bool:
        """Whether these are at least as well known as those that are stored."""
        is_poorer = self.times.provisional and self.times.processes < stored.times.processes
        return not is_poorer and self.started_at >= stored.started_at


class DeviceResults:
    """The results of a device. What another driver measures is seen by `reload`."""

    def __init__(self, ledger: Ledger, device_id: str) -> None:
        self._ledger = ledger
        self._device_id = device_id
        self._times = {key: known.times for key, known in self._known_times().items()}
        self._stored: dict[str, list[MeasurementRow]] | None = None
        self._one_by_one = 0
        self._rows: dict[str, list[Measurement]] = {}
        self._pooled: dict[str, dict[str, PooledMeasurement]] = {}
        self.changed: list[str | None] = []
        """The graphs whose figures have changed, in order; None where all may have changed."""

    def pooled(self, graph_key: str, environment_id: str | None = None) -> PooledMeasurement | None:
        """What is known of a graph in an environment, by default the one in which it was measured last; None if it was
        never measured there."""
        measurements = self._measurements(graph_key)
        if environment_id is None:
            environment_id = measurements[-1].environment_id if measurements else ""
        pooled = self._pooled.setdefault(graph_key, {})
        if environment_id not in pooled:
            here = [
                self.as_known_now(measurement)
                for measurement in measurements
                if measurement.environment_id == environment_id
            ]
            if not here:
                return None
            pooled[environment_id] = pool(here)
        return pooled[environment_id]

    def last(self, graph_key: str) -> list[Measurement]:
        """The measurements of a graph in the environment in which it was measured last, oldest first, by the reference
        times that are known now."""
        measurements = self._measurements(graph_key)
        return [
            self.as_known_now(measurement)
            for measurement in measurements
            if measurement.environment_id == measurements[-1].environment_id
        ]

    def as_known_now(self, measurement: Measurement) -> Measurement:
        """A measurement by the reference times that are known now."""
        times = self._times.get(_key(measurement))
        if measurement.paired is None or times is None:
            return measurement
        return measurement._replace(paired=measurement.paired._replace(times=times))

    def reload(self, graph_key: str) -> None:
        """Read a graph again, because this driver or another one may have measured it."""
        self._rows.pop(graph_key, None)
        if self._stored is not None:
            self._stored.pop(graph_key, None)
        self._pooled.pop(graph_key, None)
        self.changed.append(graph_key)

    def adopt_times(self, measurement: Measurement) -> None:
        """Show everything by the reference times of a measurement, unless better ones are stored: it may be that of
        an earlier job, and an agent that has lost its state learns them anew."""
        if measurement.paired is None:
            return
        key = _key(measurement)
        # A clock that was ahead once must not make all later times older.
        found = _KnownTimes(measurement.paired.times, min(measurement.started_at, utc_now()))
        stored = self._known_times().get(key)
        known = found if stored is None or found.replaces(stored) else stored
        if known is found and (stored is None or not _same(found.times, stored.times)):
            self._ledger.set_reference_times(key, StoredTimes(found.times.to_json(), found.started_at))
        if not _same(known.times, self._times.get(key)):
            self._times[key] = known.times
            self._pooled.clear()
            self.changed.append(None)

    def read(self, graph_keys: Sequence[str]) -> None:
        """Read what is stored of these graphs at once."""
        if self._stored is None:
            self._stored = {graph_key: [] for graph_key in graph_keys}
            for row in self._ledger.measurements_of_graphs(graph_keys, self._device_id):
                self._stored[row.graph_key].append(row)

    def _known_times(self) -> dict[ReferenceKey, _KnownTimes]:
        """The reference times in the ledger, where another driver may have stored better ones."""
        where = f"vs_reference_times of device {self._device_id}"
        return {
            key: _KnownTimes(decoded(ReferenceTimes.from_json, stored.times, where), stored.started_at)
            for key, stored in self._ledger.reference_times(self._device_id).items()
        }

    def _measurements(self, graph_key: str) -> list[Measurement]:
        if graph_key not in self._rows:
            self._rows[graph_key] = [row.measurement for row in self._read(graph_key)]
        return self._rows[graph_key]

    def _read(self, graph_key: str) -> list[MeasurementRow]:
        """What is stored of a graph."""
        if self._stored is None and self._one_by_one < ONE_BY_ONE:
            self._one_by_one += 1
            return self._ledger.measurements(graph_key, self._device_id)
        if self._stored is None:
            self._stored = {}
            for row in self._ledger.measurements_of_device(self._device_id):
                self._stored.setdefault(row.graph_key, []).append(row)
        rows = self._stored.pop(graph_key, None)
        return self._ledger.measurements(graph_key, self._device_id) if rows is None else rows


def _same(times: ReferenceTimes, others: ReferenceTimes | None) -> bool:
    """Whether milliseconds are the same; the number of processes behind them grows with every measurement."""
    return others is not None and times._replace(processes=0) == others._replace(processes=0)


def _key(measurement: Measurement) -> ReferenceKey:
    return ReferenceKey(
        measurement.device_id,
        measurement.environment_id,
        "" if measurement.paired is None else measurement.paired.reference,
        measurement.runtime,
        measurement.protocol.threads,
    )
