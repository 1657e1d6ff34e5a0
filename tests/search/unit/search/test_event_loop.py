"""A coroutine is run to its end with or without a loop that runs already, in any thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from support import PYTHON_PATH
from vitsearch.search.event_loop import run_to_end


async def answer():
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


IN_A_NOTEBOOK = """
import asyncio, os, signal, threading
from vitsearch.search.event_loop import run_to_end

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it

async def search():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(60)
    finally:
        print("ended", flush=True)

async def cell():
    run_to_end(search())

loop = asyncio.new_event_loop()  # asyncio.run would take the interrupt for its own
try:
    loop.run_until_complete(cell())
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""


def test_an_interrupt_in_a_notebook_ends_it_cleanly():
    env = {"PYTHONPATH": PYTHON_PATH}
    done = subprocess.run([sys.executable, "-c", IN_A_NOTEBOOK], capture_output=True, text=True, env=env, check=True)
    assert (done.stdout, done.stderr) == ("ended\ninterrupted\n", "")


AS_A_PROGRAM = """
import asyncio, os, signal
from vitsearch.search.event_loop import run_to_end

signal.signal(signal.SIGTERM, lambda *_: None)
before = signal.getsignal(signal.SIGTERM)

async def search():
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.sleep(60)
    finally:
        print("ended", flush=True)

try:
    run_to_end(search())
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGTERM) is before)
"""


def test_sigterm_ends_it_as_an_interrupt_does_and_means_afterwards_what_it_did():
    env = {"PYTHONPATH": PYTHON_PATH}  # in a process of its own: it would end that of the tests
    done = subprocess.run([sys.executable, "-c", AS_A_PROGRAM], capture_output=True, text=True, env=env, check=True)
    assert (done.stdout, done.stderr) == ("ended\ninterrupted True\n", "")
