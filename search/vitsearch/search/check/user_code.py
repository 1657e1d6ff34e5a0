"""What a check has to build of networks of the user's own: in a process beside the driver's, which imports no user's
code."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

from vitsearch.core.networks import Networks
from vitsearch_agent.base.python import safe_path

P = ParamSpec("P")
R = TypeVar("R")


def caller(backbone: str, networks: Networks, function: Callable[P, R]) -> Callable[P, R]:
    """Choose where a function that builds a backbone runs.

    Args:
        backbone: The backbone that it builds.
        networks: Those of the user.
        function: Of the top level of a module, as it is sent by its name.

    Returns:
        The function, which runs in a process of its own if the backbone is a network of the user's.
    """
    if all(network.name != backbone for network in networks):
        return function
    return lambda *positional, **named: _process().submit(function, *positional, **named).result()


@cache
def _process() -> ProcessPoolExecutor:
    """One process for all calls; it ends with this one."""
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with safe_path():
        pool.submit(int).result()  # which starts it
    return pool
