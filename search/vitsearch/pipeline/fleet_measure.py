"""Measurements of a run's devices: one, or several at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from vitsearch.core.fleet import Fleet, Member
from vitsearch.devices.agent_device import Device
from vitsearch.devices.protocols import Phases, Protocols
from vitsearch.errors import StageError
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.measure import DeviceMeasurements, ModelFile
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.pooled_measurements import FleetPool, PooledMeasurement
from vitsearch_agent.wire.protocol import MeasureProtocol


class Measurements(Protocol):
    """Measures graphs, and knows what was measured before."""

    @property
    def protocols(self) -> Protocols: ...

    @property
    def fleet(self) -> Fleet | None:
        """What the devices are together; None for one."""
        ...

    def pooled(self, graph: str) -> PooledMeasurement | None:
        """All measurements of a graph as one; None while a device has not measured it."""
        ...

    @property
    def results(self) -> Mapping[str, DeviceResults]:
        """What was measured, by the id of the device."""
        ...

    def changes(self) -> Sequence[str | None]:
        """The graphs whose figures have changed since this began, in order; None where all may have changed."""
        ...

    def reload(self, graph: str) -> None:
        """Read a graph again."""
        ...

    def rounds(self, graph: str, protocol: MeasureProtocol) -> int:
        """How often every device has measured a graph by one of the `protocols`."""
        ...

    async def measure(self, file: ModelFile, protocol: MeasureProtocol, rounds: int = 1) -> None:
        """Measure the file of a graph until every device has measured it `rounds` times."""
        ...

    def is_settled(self, graph: str) -> bool:
        """Whether every device has measured a graph as often as the models that a study shows in the end."""
        ...

    async def settle(self, file: ModelFile) -> None:
        """Measure the file of a graph once more on the devices on which it is not settled."""
        ...


def measurements_on(
    context: StageContext, devices: Iterable[Device], phases: Phases, weights: Mapping[str, float] | None
) -> Measurements:
    """The measurements of one device, or of a fleet; `weights` as `Fleet` has them."""
    each = {device.name: DeviceMeasurements(context, device, Protocols.of(phases, device.info)) for device in devices}
    return next(iter(each.values())) if len(each) == 1 else FleetMeasurements(each, weights)


class FleetMeasurements:
    """The measurements of several devices. Each has its own queue, so the fast ones do not wait for the slow ones: they
    measure the next model. Their protocols may differ, such as by the number of streams; those of the first device
    stand for the ones of all."""

    def __init__(self, each: Mapping[str, DeviceMeasurements], weights: Mapping[str, float] | None) -> None:
        self._each = dict(each)
        self.protocols = next(iter(self._each.values())).protocols
        members = {
            name: Member(measurements.device_id, measurements.protocols.confirm.id)
            for name, measurements in self._each.items()
        }
        self.fleet = Fleet(members, weights)
        self._pool = FleetPool(self.fleet)
        self._changed: list[str | None] = []
        self._taken_in = dict.fromkeys(self._each, 0)

    def pooled(self, graph: str) -> PooledMeasurement | None:
        return self._pool.of(graph, {name: measurements.pooled(graph) for name, measurements in self._each.items()})

    @property
    def results(self) -> dict[str, DeviceResults]:
        return {
            device_id: results
            for measurements in self._each.values()
            for device_id, results in measurements.results.items()
        }

    def changes(self) -> Sequence[str | None]:
        for name, measurements in self._each.items():
            changed = measurements.changes()
            self._changed += changed[self._taken_in[name] :]
            self._taken_in[name] = len(changed)
        return self._changed

    def reload(self, graph: str) -> None:
        for measurements in self._each.values():
            measurements.reload(graph)

    def rounds(self, graph: str, protocol: MeasureProtocol) -> int:
        return min(measurements.rounds(graph, self._of(measurements, protocol)) for measurements in self._each.values())

    async def measure(self, file: ModelFile, protocol: MeasureProtocol, rounds: int = 1) -> None:
        await self._on_all(lambda measurements: measurements.measure(file, self._of(measurements, protocol), rounds))

    def is_settled(self, graph: str) -> bool:
        return all(measurements.is_settled(graph) for measurements in self._each.values())

    async def settle(self, file: ModelFile) -> None:
        await self._on_all(lambda measurements: measurements.settle(file))

    async def _on_all(self, measure: Callable[[DeviceMeasurements], Awaitable[None]]) -> None:
        """Measure on all devices. Results of the others are kept before the failure of one is raised with its name."""
        calls = (_naming(name, measure(measurements)) for name, measurements in self._each.items())
        failures = [error for error in await asyncio.gather(*calls, return_exceptions=True) if error is not None]
        final = [error for error in failures if isinstance(error, StageError)]
        for error in [*(error for error in failures if error not in final), *final]:
            raise error

    def _of(self, measurements: DeviceMeasurements, protocol: MeasureProtocol) -> MeasureProtocol:
        return measurements.protocols.screen if protocol == self.protocols.screen else measurements.protocols.confirm


async def _naming(device: str, measuring: Awaitable[None]) -> None:
    """Let the failure of a model say on which device it failed."""
    try:
        await measuring
    except StageError as error:
        if error.message.startswith("device "):  # it names itself, or the board of a pool
            raise
        raise StageError(error.stage, error.kind, f"device {device}: {error.message}") from error
