"""Coroutines that run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(started: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order; the first exception ends the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in started]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
