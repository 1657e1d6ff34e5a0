"""Several boards of one class as one device: what is measured goes to a board that is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vitsearch.core.device_identity import CLASS
from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import Device, DeviceOutputs, Outage
from vitsearch.errors import ResourceError
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.wire.protocol import DeviceInfo, Hardware, Measurement, MeasureProtocol

FAILOVER_AFTER_S = 15.0
"""Silence of a board after which its work goes to another one, if one is free."""
FAILOVER = "failover"
"""The flag of a measurement that was begun on another board."""
POLL_S = 0.5
R = TypeVar("R")


class BoardPool:
    """A device called `name`. Its boards have equal fingerprints, so their measurements are of one environment and
    one device.

    `note` gets a line about each board that is replaced by another during a measurement.
    """

    def __init__(
        self,
        name: str,
        boards: Sequence[Device],
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ResourceError` with the difference where the boards are not of one class."""
        self.name = name
        self._boards = tuple(boards)
        self._note = note
        self._clock = clock
        self._free: asyncio.Queue[Device] | None = None
        self._device_id = CLASS + digest({"class": _class_of(boards[0].info)})[:32]
        refuse_mixed(boards)

    @property
    def info(self) -> DeviceInfo:
        """That of the first board, with the class of all of them for an identity."""
        info = self._boards[0].info
        board, processor = info.hardware.board, info.hardware.processor
        return info._replace(device_id=self._device_id, hardware=Hardware("", board, processor))

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self,)

    def adopt(self) -> None:
        pass

    @property
    def parallel(self) -> int:
        return len(self._boards)

    @property
    def outage(self) -> Outage | None:
        """None while a board answers; else the outage that began last."""
        outages = [board.outage for board in self._boards]
        silent = [outage for outage in outages if outage is not None]
        return max(silent, key=lambda outage: outage.since_s) if len(silent) == len(outages) else None

    @property
    def deadline_s(self) -> float:
        return max(board.deadline_s for board in self._boards)

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        measurement, moved = await self._on_a_board(lambda board: board.measure(artifact, deployment, protocol, repeat))
        refuse_mixed(self._boards)  # again: one may have come back in another power mode, or updated
        flags = (*measurement.flags, FAILOVER) if moved else measurement.flags
        return measurement._replace(device_id=self._device_id, flags=flags)

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        outputs, _ = await self._on_a_board(lambda board: board.outputs(artifact, images, deployment, reduction))
        return outputs.of_device(self._device_id)

    async def waits_in_queue(self) -> str | None:
        """What the first board waits for, if every board waits."""
        texts = [await board.waits_in_queue() for board in self._boards]
        return texts[0] if all(texts) else None

    def close(self) -> None:
        for board in self._boards:
            board.close()

    async def _on_a_board(self, ask: Callable[[Device], Awaitable[R]]) -> tuple[R, bool]:
        """The answer of a board, and whether another one was asked before it in vain."""
        free, moved = self._queue(), False
        board = await free.get()
        while True:
            task = asyncio.ensure_future(ask(board))
            task.add_done_callback(lambda _, board=board: free.put_nowait(board))  # type: ignore[misc]
            try:
                other = await self._instead(task, board, free)
            except asyncio.CancelledError:
                task.cancel()
                raise
            if other is None:
                return task.result(), moved
            self._note(f"device {board.name} does not answer; its work goes on on {other.name}")
            task.add_done_callback(_swallow)
            board, moved = other, True

    async def _instead(self, task: asyncio.Future[Any], board: Device, free: asyncio.Queue[Device]) -> Device | None:
        """Another board that is free while this one is silent; None as soon as the task has ended."""
        while not (await asyncio.wait({task}, timeout=POLL_S))[0]:
            outage = board.outage
            if outage is not None and self._clock() - outage.since_s >= FAILOVER_AFTER_S and not free.empty():
                return free.get_nowait()
        return None

    def _queue(self) -> asyncio.Queue[Device]:
        """Made within the event loop that uses it."""
        if self._free is None:
            self._free = asyncio.Queue()
            for board in self._boards:
                self._free.put_nowait(board)
        return self._free


def refuse_mixed(boards: Sequence[Device]) -> None:
    """Raise `ResourceError` with what differs, unless all boards are of one class."""
    first = boards[0]
    for board in boards[1:]:
        if board.info.device_id == first.info.device_id:
            raise ResourceError(f"devices: {first.name} and {board.name} are the same device")
        if board.info.environment_id != first.info.environment_id or board.info.kind != first.info.kind:
            raise ResourceError(
                f"devices: {first.name} and {board.name} are not of one class, so their measurements do not compare: "
                f"{_difference(first.info, board.info)}"
            )


def _difference(first: DeviceInfo, other: DeviceInfo) -> str:
    before, after = ({**info.fingerprint, "kind": info.kind} for info in (first, other))
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return "; ".join(f"{key} {before.get(key)!r} and {after.get(key)!r}" for key in keys) or "their environments differ"


def _class_of(info: DeviceInfo) -> dict[str, Any]:
    return {key: info.fingerprint.get(key) for key in ("board", "cpu", "machine", "ram_mb")} | {"kind": info.kind}


def _swallow(task: asyncio.Future[Any]) -> None:
    """What the silent board says in the end, nobody needs."""
    if not task.cancelled():
        task.exception()
