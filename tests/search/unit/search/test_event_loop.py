"""A coroutine is run to its end with or without a loop that runs already, in any thread."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from vitsearch.search.event_loop import run_to_end, stop_on_sigterm


async def answer():
    stop_on_sigterm()
    await asyncio.sleep(0)
    return threading.current_thread()


def test_without_a_loop_it_runs_in_this_thread():
    assert run_to_end(answer()) is threading.current_thread()


def test_beside_a_loop_it_runs_in_a_thread_of_its_own():
    async def cell():
        return run_to_end(answer())

    assert asyncio.run(cell()) is not threading.current_thread()


def test_in_another_thread_it_runs_there():
    threads = []
    thread = threading.Thread(target=lambda: threads.append(run_to_end(answer())))
    thread.start()
    thread.join()
    assert threads == [thread]


def test_errors_reach_who_called():
    async def fails():
        raise ValueError("a fault")

    async def cell():
        run_to_end(fails())

    with pytest.raises(ValueError, match="a fault"):
        asyncio.run(cell())


@pytest.fixture
def interrupts_raise():
    """As in a terminal. Whoever starts the tests may ignore SIGINT, and a library that ran before may end by it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_raise")
def test_an_interrupt_in_a_notebook_ends_it_cleanly():
    ended = []

    async def search():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(time.monotonic())

    async def cell():
        run_to_end(search())

    loop = asyncio.new_event_loop()  # asyncio.run would take the interrupt for its own
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    loop.close()
    assert len(ended) == 1
