"""Run a coroutine to its end from a function that is not asynchronous, also in a notebook, whose loop runs already."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, and SIGTERM ends it as Ctrl-C does; where the thread has a running loop, in a thread of its
    own, which Ctrl-C ends as cleanly."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            return asyncio.run(_until_sigterm(main))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    return _run_beside(main)


def _run_beside(main: Coroutine[Any, Any, T]) -> T:
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def begin() -> T:
        task = asyncio.current_task()
        assert task is not None
        begun.set_result((asyncio.get_running_loop(), task))
        return await main

    with ThreadPoolExecutor(1, "vitsearch") as pool:
        running = pool.submit(asyncio.run, begin())
        try:
            return running.result()
        except KeyboardInterrupt:
            loop, task = begun.result()
            loop.call_soon_threadsafe(task.cancel)
            with suppress(asyncio.CancelledError):
                running.result()
            raise


async def _until_sigterm(main: Coroutine[Any, Any, T]) -> T:
    """Let SIGTERM cancel the present task. Outside the main thread Python cannot handle signals."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    if threading.current_thread() is not threading.main_thread():
        return await main
    before = signal.getsignal(signal.SIGTERM)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await main
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
