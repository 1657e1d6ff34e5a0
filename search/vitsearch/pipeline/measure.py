"""Measurements of a run's device: looked up in the ledger, else made once and written there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices.agent_device import Device
from vitsearch.devices.protocols import PLAIN, Protocols
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.resolved_trial import ResolvedTrial
from vitsearch.storage.ledger import MeasurementRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch_evaluators.wire.protocol import MeasureProtocol

CONTENDED_REPEATS = 2
DEVICE_FLAGS = {
    "unverified_device": "its canary drifted, so its numbers are not trusted now",
    "sustained_throttling": "it throttles however often a measurement is repeated",
    "warm_start": "it did not cool down to measure.start_max_c in time",
    "swapped": "it swapped memory while it measured",
}
"""Flags that describe the device and not a moment, with what they mean."""


class DeviceMeasurements:
    """Measures graphs on the device of a run. Where ``wall_clock_decides``, disturbed measurements are repeated."""

    def __init__(
        self, context: StageContext, device: Device, wall_clock_decides: bool, protocols: Protocols = PLAIN
    ) -> None:
        self.protocols = protocols
        self._warned: set[str] = set()
        self._context = context
        self._device = device
        self._attempts = 1 + (CONTENDED_REPEATS if wall_clock_decides else 0)

    def latest(self, graph: str, protocol: MeasureProtocol, repeat: int | None = None) -> MeasurementRow | None:
        """The newest of this device in its present environment."""
        rows = [row for row in self._rows(graph, protocol) if repeat in (None, row.repeat)]
        return rows[-1] if rows else None

    async def measure(
        self, trial: ResolvedTrial, file: Path, protocol: MeasureProtocol, repeat: int = 0
    ) -> MeasurementRow:
        """Measure the file of a trial's graph. The last attempt is kept, flagged if it was disturbed too."""
        graph, deployment = trial.keys.graph_key, trial.plan.deployment

        async def make() -> tuple[MeasurementRow, StageCost]:
            for attempt in range(self._attempts):
                with self._context.stage(Stage.MEASURE):
                    number = repeat * self._attempts + attempt
                    found = await self._device.measure(file, deployment, protocol, number)
                if "contended" not in found.flags:
                    break
            self._warn(found.flags)
            where = found.device_id, found.environment_id
            row = MeasurementRow(graph, found.artifact, *where, protocol.id, repeat, found.to_json())
            return row, StageCost(found.seconds, {deployment.runtime: found.runtime_version})

        key = StageKey(Stage.MEASURE, f"{graph}:{protocol.id}:{repeat}")
        return await self._context.single_flight.get(key, lambda: self.latest(graph, protocol, repeat), make)

    async def measure_again(self, trial: ResolvedTrial, file: Path) -> bool:
        """Repeat the confirmation measurement once; False when that was done before."""
        if any(row.repeat > 0 for row in self._rows(trial.keys.graph_key, self.protocols.confirm)):
            return False
        await self.measure(trial, file, self.protocols.confirm, repeat=1)
        return True

    def _rows(self, graph: str, protocol: MeasureProtocol) -> list[MeasurementRow]:
        info = self._device.info
        rows = self._context.ledger.measurements(graph, info.device_id, protocol.id)
        return [row for row in rows if row.environment_id == info.environment_id]

    def _warn(self, flags: Iterable[str]) -> None:
        """Note each flag that describes the device once a run."""
        for flag in sorted(DEVICE_FLAGS.keys() & set(flags) - self._warned):
            self._warned.add(flag)
            self._context.progress.note(f"device {self._device.name}: {DEVICE_FLAGS[flag]} (flag {flag})")
