"""Measurements of a run's device: looked up in the ledger, else made once and written there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitsearch.core.plan import Deployment
from vitsearch.core.progress import Progress
from vitsearch.devices.agent_device import Device
from vitsearch.devices.protocols import PLAIN, Protocols
from vitsearch.pipeline.single_flight import SingleFlight
from vitsearch.storage.ledger import Ledger, MeasurementRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch_evaluators.wire.protocol import MeasureProtocol

CONTENDED_REPEATS = 2
UNTRUSTED_FLAGS = {
    "unverified_device": "its canary drifted, so its numbers are not trusted now",
    "sustained_throttling": "it throttles however often a measurement is repeated",
    "warm_start": "it did not cool down to measure.start_max_c in time",
    "swapped": "it swapped memory while it measured",
}


@dataclass(frozen=True)
class Measurand:
    """A file, and the graph in it, which is what costs."""

    path: Path
    sha256: str
    graph_key: str
    deployment: Deployment


class DeviceMeasurements:
    """One per run. Where ``wall_clock_decides``, what other work disturbed is measured again."""

    def __init__(
        self,
        ledger: Ledger,
        single_flight: SingleFlight,
        device: Device,
        progress: Progress,
        wall_clock_decides: bool,
        protocols: Protocols = PLAIN,
    ) -> None:
        self.protocols = protocols
        self._warned: set[str] = set()
        self._ledger = ledger
        self._once = single_flight
        self._device = device
        self._progress = progress
        self._attempts = 1 + (CONTENDED_REPEATS if wall_clock_decides else 0)

    def latest(self, graph: str, protocol: MeasureProtocol, repeat: int | None = None) -> MeasurementRow | None:
        """The newest of this device in its present environment."""
        rows = [
            row
            for row in self._ledger.measurements(graph, self._device.info.device_id, protocol.id)
            if row.environment_id == self._device.info.environment_id and repeat in (None, row.repeat)
        ]
        return rows[-1] if rows else None

    async def measure(self, wanted: Measurand, protocol: MeasureProtocol, repeat: int = 0) -> MeasurementRow:
        """The last attempt stands, flagged if it was disturbed too."""
        graph, deployment = wanted.graph_key, wanted.deployment

        async def make() -> tuple[MeasurementRow, StageCost]:
            for attempt in range(self._attempts):
                with self._progress.stage("measure"):
                    number = repeat * self._attempts + attempt
                    found = await self._device.measure(wanted.path, deployment, protocol, number)
                if "contended" not in found.flags:
                    break
            self._warn(found.flags)
            where = found.device_id, found.environment_id
            row = MeasurementRow(graph, wanted.sha256, *where, protocol.id, repeat, found.to_json())
            return row, StageCost(found.seconds, {deployment.runtime: found.runtime_version})

        name = f"measure:{graph}:{protocol.id}:{repeat}"
        return await self._once.get(name, lambda: self.latest(graph, protocol, repeat), make)

    def _warn(self, flags: Iterable[str]) -> None:
        """SingleFlight a run for each of the flags that tell of the device and not of a moment."""
        for flag in sorted(UNTRUSTED_FLAGS.keys() & set(flags) - self._warned):
            self._warned.add(flag)
            self._progress.note(f"device {self._device.name}: {UNTRUSTED_FLAGS[flag]} (flag {flag})")

    async def again(self, wanted: Measurand) -> bool:
        """SingleFlight more under the full protocol; False when that was done before."""
        confirm = self.protocols.confirm
        known = self._ledger.measurements(wanted.graph_key, self._device.info.device_id, confirm.id)
        if any(row.repeat > 0 and row.environment_id == self._device.info.environment_id for row in known):
            return False
        await self.measure(wanted, confirm, repeat=1)
        return True
