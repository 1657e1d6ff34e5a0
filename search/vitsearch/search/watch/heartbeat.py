"""Signs of life of a driver, without which others would take its work for abandoned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

BEAT_S = 30.0

logger = logging.getLogger(__name__)


async def beat_forever(*beats: Callable[[], object]) -> None:
    """Call ``beats`` one after the other every :data:`BEAT_S` seconds, until the task is cancelled."""
    while True:
        await asyncio.sleep(BEAT_S)
        try:
            for beat in beats:
                beat()
        except Exception as error:  # noqa: BLE001 - whatever the database raised, the next beat makes up for it
            logger.warning("the database missed a heartbeat: %s", error)
