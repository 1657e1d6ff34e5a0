"""Signs of life of a driver, without which others would take its work for abandoned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from vitsearch.errors import StudyDeleted, VitsearchError

BEAT_S = 30.0

logger = logging.getLogger(__name__)

Beats = Sequence[Callable[[], object]]


@asynccontextmanager
async def alive(*beats: Callable[[], object]) -> AsyncIterator[None]:
    """Call `beats` one after the other every `BEAT_S` seconds, until the block ends.

    Raises `StudyDeleted` when a beat does, and cancels the block; also when the block fails because its study
    is gone.
    """
    block, deletions = asyncio.current_task(), list[StudyDeleted]()
    assert block is not None

    async def beat_forever() -> None:
        while not deletions:
            await asyncio.sleep(BEAT_S)
            if deletion := _beat(beats):
                deletions.append(deletion)
                block.cancel()

    beating = asyncio.create_task(beat_forever())
    try:
        yield
    except BaseException as error:
        deletion = deletions[0] if deletions else None
        if deletion is not None:
            block.uncancel()
        elif isinstance(error, Exception) and not isinstance(error, VitsearchError):
            deletion = _beat(beats)  # what the database no longer has is a KeyError somewhere
        if deletion is not None:
            raise deletion from error
        raise
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def _beat(beats: Beats) -> StudyDeleted | None:
    """Call the beats, and return what ended them, when the study is gone."""
    try:
        for beat in beats:
            beat()
    except StudyDeleted as deletion:
        return deletion
    except Exception as error:  # noqa: BLE001 - whatever the database raised, the next beat makes up for it
        logger.warning("the database missed a heartbeat: %s", error)
    return None
