"""The device of a run that is this machine: its measurements take turns with what else this user measures here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import AgentDevice, DeviceOutputs
from vitsearch.devices.connection import FOREVER_S
from vitsearch_agent.base import locks
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.protocol import Measurement, MeasureProtocol

LOOK_S = 1.0
R = TypeVar("R")


class LocalDevice(AgentDevice):
    """`note` gets one line about each other process that this run waits for."""

    def __init__(self, name: str, agent: EmbeddedAgent, study: str, note: Callable[[str], None], failures: int) -> None:
        super().__init__(name, agent.client(study, deadline_s=FOREVER_S), failures)
        self._agent = agent
        self._note = note
        self._noted: set[int] = set()

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        return await self._noting(super().measure(artifact, deployment, protocol, repeat))

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        return await self._noting(super().outputs(artifact, images, deployment, reduction))

    async def _noting(self, request: Awaitable[R]) -> R:
        task = asyncio.ensure_future(request)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S))[0]:
                self._note_other()
            return task.result()
        finally:
            task.cancel()

    def _note_other(self) -> None:
        other = locks.holder(locks.measuring_lock_path())
        if other is not None and other.pid not in self._noted and not self._agent.has_pid(other.pid):
            self._noted.add(other.pid)
            self._note(f"waiting for pid {other.pid}, which measures {other.work}; from now on they take turns")
