"""Which stages run at the same time: as many as there are trainers, and one short stage more behind long ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vitsearch.core.activity import current
from vitsearch.core.stage import Stage

LONG = frozenset({Stage.BASE, Stage.LOGITS, Stage.FEATURES, Stage.TRAIN, Stage.TRAIN_INT8})
"""Stages that may take minutes."""
PATIENCE_S = 20.0
"""A short stage that has waited so long gets the place beside the trainers. In an hour of trainings of six minutes,
exports of two seconds waited for up to seven minutes, and the device with them."""
WAITS = "waits for a free worker"


class Places:
    """The places of one run.

    Args:
        trainers: Their number.
        has_extra: Whether there is a place beside them, on the same cores. With GPUs and in a cluster there is none:
            what a trainer has there is its own.
    """

    def __init__(self, trainers: int, has_extra: bool) -> None:
        self._trainers = asyncio.Semaphore(trainers)
        self._extra = asyncio.Semaphore(1) if has_extra else None

    @asynccontextmanager
    async def place(self, stage: Stage) -> AsyncIterator[bool]:
        """Wait for a place, and hold it inside this block. The work says that it waits.

        Args:
            stage: What needs it.

        Yields:
            Whether it is the one beside the trainers.
        """
        work = current()
        work.text = WAITS
        try:
            place = await self._acquired(stage)
        finally:
            work.text = ""
        try:
            yield place is self._extra
        finally:
            place.release()

    async def _acquired(self, stage: Stage) -> asyncio.Semaphore:
        if self._extra is None or stage in LONG:
            await self._trainers.acquire()
            return self._trainers
        try:
            await asyncio.wait_for(self._trainers.acquire(), PATIENCE_S)
            return self._trainers
        except TimeoutError:
            await self._extra.acquire()
            return self._extra
