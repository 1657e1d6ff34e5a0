"""Measurements of a run's device: looked up in the ledger, else made once and written there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from vitsearch.core.activity import current
from vitsearch.core.fleet import Fleet
from vitsearch.core.plan import Deployment
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage, StageKey
from vitsearch.devices.agent_device import Device
from vitsearch.devices.protocols import PLAIN, Protocols, for_deployment
from vitsearch.pipeline.context import StageContext
from vitsearch.storage.ledger import MeasurementRow
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.pooled_measurements import PooledMeasurement
from vitsearch.storage.stage_cost import StageCost
from vitsearch_agent.wire.measurement import PAIRED
from vitsearch_agent.wire.protocol import MeasureProtocol

NO_COST = StageCost(0.0)
SHORT_ID = 12
"""Characters of a device id that tell two devices apart in the key of a claim."""
DEVICE_FLAGS = {
    "unverified_device": "its canary drifted, so its numbers are not trusted now",
    "sustained_throttling": "it throttles however often a measurement is repeated",
    "warm_start": "it did not cool down to measure.start_max_c in time",
    "swapped": "it swapped memory while it measured",
}
"""Flags that describe the device and not a moment, with what they mean."""


@dataclass(frozen=True)
class ModelFile:
    """A model to measure; its store, where `find` looks for it, may be far away. `graph` is the key of its graph,
    `deployment` has the options that the file needs beside those of its plan; files of the same `structure` have
    the same cost."""

    find: Callable[[], Path]
    graph: str
    deployment: Deployment
    structure: str | None = None

    async def path(self) -> Path:
        """Its path on this machine."""
        return await asyncio.to_thread(self.find)


def final_confirmations(record: Record | None) -> int:
    """How often a model that is shown at the end was confirmed in a study that confirms every model: once at the
    end of the run, and once before, after its training or, as the baseline (None), at the start."""
    return 2 if record is None or record.was_trained else 1


def rounds_of(repeats: Iterable[int]) -> int:
    """How often a graph was measured, from the numbers of its measurements: disturbed attempts count as one with the
    attempt that followed."""
    return max((1 + repeat // POLICY.measuring.attempts for repeat in repeats), default=0)


def _round_of(row: MeasurementRow) -> int:
    return row.repeat // POLICY.measuring.attempts


class DeviceMeasurements:
    """Measures graphs on a device of a run, and knows what was measured before."""

    fleet: Fleet | None = None

    def __init__(self, context: StageContext, device: Device, protocols: Protocols = PLAIN) -> None:
        self.protocols = protocols
        self._warned: set[str] = set()
        self._context = context
        self._device = device
        self._results = DeviceResults(context.ledger, device.info.device_id)
        self._environment = device.info.environment_id

    @property
    def device_id(self) -> str:
        return self._device.info.device_id

    def pooled(self, graph: str) -> PooledMeasurement | None:
        """All measurements of a graph in the present environment as one; None without any."""
        return self._results.pooled(graph, self._device.info.environment_id)

    @property
    def results(self) -> dict[str, DeviceResults]:
        """What was measured, by the id of the device."""
        return {self.device_id: self._results}

    def changes(self) -> Sequence[str | None]:
        """The graphs whose figures have changed since this began, in order; None where all may have changed."""
        if self._environment != self._device.info.environment_id:
            self._environment = self._device.info.environment_id
            self._results.changed.append(None)
        return self._results.changed

    def reload(self, graph: str) -> None:
        """Read a graph again, or for the first time."""
        self._device.adopt()
        self._results.reload(graph)

    def rounds(self, graph: str, protocol: MeasureProtocol) -> int:
        """How often a graph was measured by a protocol in the present environment."""
        return rounds_of(self._repeats(graph, protocol))

    async def measure(self, file: ModelFile, protocol: MeasureProtocol, rounds: int = 1) -> None:
        """Measure the file of a graph until it was measured `rounds` times by this protocol."""
        self._device.adopt()
        graph = file.graph
        for number in range(self.rounds(graph, protocol), rounds):
            key = StageKey(Stage.MEASURE, f"{graph}:{self.device_id[:SHORT_ID]}:{protocol.id}:{number}")
            await self._context.single_flight.make(
                key,
                partial(self._last_of, graph, protocol, number),
                partial(self._round, file, protocol, number),
            )
        self._results.reload(graph)

    def is_settled(self, graph: str) -> bool:
        """Whether a graph was measured as often as the models that a study shows in the end. Throughput has no
        reference, and a phase of its own that is longer in a confirmation."""
        if self.protocols.screen.throughput_s:
            return self.rounds(graph, self.protocols.confirm) > 0
        pooled = self.pooled(graph)
        return pooled is not None and pooled.is_settled

    async def settle(self, file: ModelFile) -> None:
        """Measure the file of a graph once more if it is not settled. A screening measurement waits until the
        last one is long enough ago to say something new."""
        graph, screen = file.graph, self.protocols.screen
        if self.pooled(graph) is None:
            await self.measure(file, screen)
        pooled = self.pooled(graph)
        assert pooled is not None  # it was measured
        if self.is_settled(graph):
            return
        if pooled.basis != PAIRED or screen.throughput_s:
            return await self.measure(file, self.protocols.confirm)
        apart_s, ago_s = POLICY.measuring.apart_s, (datetime.now(UTC) - pooled.last_at).total_seconds()
        if (wait_s := min(apart_s, apart_s - ago_s)) > 0.0:
            why = f"it begins {apart_s:.0f} s after the last, because another minute says more than the same one"
            with current().awaiting("a further measurement of the same model", why):
                await asyncio.sleep(wait_s)
        await self.measure(file, screen, self.rounds(graph, screen) + 1)

    async def _round(self, file: ModelFile, protocol: MeasureProtocol, number: int) -> tuple[MeasurementRow, StageCost]:
        """Measure once, and again if other work disturbed it beyond correction. Every attempt is kept, but no disturbed
        one counts before the last: whoever looks meanwhile, or resumes, would take it for the round.

        Nothing is measured where a file of the same structure was: its results hold for this graph too.
        """
        graph, deployment = file.graph, file.deployment
        if same := self._of_structure(file, protocol, number):
            *others, last = (replace(row, graph_key=graph) for row in same)
            for row in others:
                self._context.ledger.add(row, NO_COST)
            return last, NO_COST
        attempts = 1 if protocol == self.protocols.screen else POLICY.measuring.attempts
        run_by = for_deployment(protocol, deployment)
        disturbed: list[tuple[MeasurementRow, StageCost]] = []
        for attempt in range(attempts):
            repeat = number * POLICY.measuring.attempts + attempt
            path = await file.path()
            with self._context.stage(Stage.MEASURE):
                measurement = await self._device.measure(path, deployment, run_by, repeat)
            self._warn(measurement.flags)
            self._results.adopt_times(measurement)
            where = measurement.device_id, measurement.environment_id
            row = MeasurementRow(
                graph, measurement.artifact, *where, protocol.id, repeat, measurement.to_json(), file.structure
            )
            versions = {deployment.runtime: measurement.runtime_version}
            cost = StageCost.of_device(self._device.name, measurement.cpu_seconds, measurement.seconds, versions)
            self._context.ledger.costs.note(Stage.MEASURE, cost, protocol.id)
            if "contended" not in measurement.flags or attempt == attempts - 1:
                for earlier in disturbed:
                    self._context.ledger.add(*earlier)
                return row, cost
            disturbed.append((row, cost))
        raise AssertionError("unreachable")

    def _of_structure(self, file: ModelFile, protocol: MeasureProtocol, number: int) -> list[MeasurementRow]:
        """The attempts of a round of another graph whose file has the same structure, with the same threads and
        streams, in the present environment."""
        info, run_by = self._device.info, for_deployment(protocol, file.deployment)
        if file.structure is None:
            return []
        rows = self._context.ledger.measurements_of_structure(file.structure, info.device_id, protocol.id)
        rows = [row for row in rows if row.environment_id == info.environment_id and _round_of(row) == number]
        protocols = [row.measurement.protocol for row in rows]
        here = [
            row
            for row, used in zip(rows, protocols, strict=True)
            if (used.threads, used.streams) == (run_by.threads, run_by.streams)
        ]
        return [row for row in here if row.graph_key == here[0].graph_key]

    def _last_of(self, graph: str, protocol: MeasureProtocol, number: int) -> MeasurementRow | None:
        """The last row of a round that was measured before."""
        if all(repeat // POLICY.measuring.attempts != number for repeat in self._repeats(graph, protocol)):
            return None
        info = self._device.info
        rows = self._context.ledger.measurements(graph, info.device_id, protocol.id)
        return [row for row in rows if row.environment_id == info.environment_id and _round_of(row) == number][-1]

    def _repeats(self, graph: str, protocol: MeasureProtocol) -> list[int]:
        """The measurements by a protocol in the present environment."""
        info = self._device.info
        return self._context.ledger.repeats(graph, info.device_id, protocol.id, info.environment_id)

    def _warn(self, flags: Iterable[str]) -> None:
        """Note each flag that describes the device once a run."""
        for flag in sorted(DEVICE_FLAGS.keys() & set(flags) - self._warned):
            self._warned.add(flag)
            self._context.progress.note(f"device {self._device.name}: {DEVICE_FLAGS[flag]} (flag {flag})")
