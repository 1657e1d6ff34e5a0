"""A device under the id by which its study knows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import Device, DeviceOutputs
from vitsearch.devices.wrapped_device import WrappedDevice
from vitsearch_agent.wire.protocol import DeviceInfo, Measurement, MeasureProtocol


class RecognizedDevice(WrappedDevice):
    """Measures as `device`, whose agent may have got another id since the study began: results have `device_id`.

    `adopt` is called once, before the first figure is used, be it a new one or one of the ledger. It raises where
    another device measures for the study under this name by now.
    """

    def __init__(self, device: Device, device_id: str, adopt: Callable[[], None]) -> None:
        super().__init__(device)
        self._device_id = device_id
        self._store = adopt
        self._is_adopted = False

    @property
    def info(self) -> DeviceInfo:
        return self._device.info._replace(device_id=self._device_id)

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        self.adopt()
        measurement = await self._device.measure(artifact, deployment, protocol, repeat)
        return measurement._replace(device_id=self._device_id)

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        self.adopt()
        outputs = await self._device.outputs(artifact, images, deployment, reduction)
        return outputs.of_device(self._device_id)

    def adopt(self) -> None:
        if not self._is_adopted:
            self._store()
            self._is_adopted = True
