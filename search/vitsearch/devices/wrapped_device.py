"""What every device that adds something to another one has in common."""

from __future__ import annotations

from pathlib import Path

from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import Device, DeviceOutputs, Outage
from vitsearch_agent.wire.protocol import DeviceInfo, Measurement, MeasureProtocol


class WrappedDevice:
    """Passes everything on to `device`."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def info(self) -> DeviceInfo:
        return self._device.info

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self,)

    @property
    def parallel(self) -> int:
        return self._device.parallel

    @property
    def outage(self) -> Outage | None:
        return self._device.outage

    @property
    def deadline_s(self) -> float:
        return self._device.deadline_s

    def adopt(self) -> None:
        self._device.adopt()

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        return await self._device.measure(artifact, deployment, protocol, repeat)

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        return await self._device.outputs(artifact, images, deployment, reduction)

    async def waits_in_queue(self) -> str | None:
        return await self._device.waits_in_queue()

    def close(self) -> None:
        self._device.close()
