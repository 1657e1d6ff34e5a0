"""The pooled measurements of the devices of a fleet as one."""

from __future__ import annotations

from collections.abc import Mapping

from vitsearch.core.fleet import Fleet
from vitsearch.core.metrics import at_device
from vitsearch.storage.pooled import PooledMeasurement
from vitsearch_evaluators.wire.measurement import PAIRED, RAW


class FleetPool:
    """Combines what each device has measured of a graph; the same object until one of them measures it again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: dict[str, tuple[dict[str, PooledMeasurement], PooledMeasurement]] = {}

    def of(self, graph_key: str, of_devices: Mapping[str, PooledMeasurement | None]) -> PooledMeasurement | None:
        """What the fleet has of a graph; None while a device has not measured it."""
        parts = {name: measurement for name, measurement in of_devices.items() if measurement is not None}
        if len(parts) < len(of_devices):
            return None
        cached = self._known.get(graph_key)
        if cached is None or any(cached[0][name] is not part for name, part in parts.items()):
            cached = self._known[graph_key] = parts, _combined(self._fleet, parts)
        return cached[1]


def _combined(fleet: Fleet, parts: Mapping[str, PooledMeasurement]) -> PooledMeasurement:
    """`flags` are those of the devices, as `throttled@nano`; the medians are `paired` where those of one are, and
    settled where those of all are. The device that waited longest for a core says how long."""
    flags = [at_device(flag, name) for name, part in parts.items() for flag in part.flags]
    basis = PAIRED if any(part.basis == PAIRED for part in parts.values()) else RAW
    metrics = fleet.combined({name: part.metrics for name, part in parts.items()})
    is_settled, last_at = all(part.is_settled for part in parts.values()), max(part.last_at for part in parts.values())
    waited = max((part.waited for part in parts.values() if part.waited is not None), default=None)
    return PooledMeasurement(metrics, tuple(flags), basis, is_settled, last_at, waited)
