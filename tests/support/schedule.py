"""In which order tests start, and when no more of them do.

Files stay together, for their fixtures. Those of the system level come first, so that no worker begins a long test
when the others have ended. `--shuffle=SEED` puts the files in a random order instead, and `--until=TIME` (seconds
since 1970) skips what has not begun by then: another part of a long suite on another day.
"""

import random
import time

import pytest

from support.outcomes import NOT_REACHED

LEVELS = ("system", "component", "unit")


def pytest_addoption(parser):
    group = parser.getgroup("schedule")
    group.addoption("--shuffle", type=int, metavar="SEED", help="run the files in a random order")
    group.addoption("--until", type=float, metavar="TIME", help="begin no test after this time, in seconds since 1970")


def pytest_report_header(config):
    seed = config.getoption("--shuffle")
    return [] if seed is None else [f"order of the files: --shuffle={seed}"]


def pytest_collection_modifyitems(config, items):
    seed = config.getoption("--shuffle")
    if seed is None:
        items.sort(key=lambda item: [level not in item.path.parts for level in LEVELS])
        return
    files = list(dict.fromkeys(item.path for item in items))
    random.Random(seed).shuffle(files)
    positions = {path: position for position, path in enumerate(files)}
    items.sort(key=lambda item: positions[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    until = item.config.getoption("--until")
    if until is not None and time.time() > until:
        pytest.skip(NOT_REACHED)
