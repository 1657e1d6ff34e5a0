"""What each trainer gets of a machine or a cluster; what is not there is refused before a run starts."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitsearch.errors import ResourceError
from vitsearch_agent.base.python import run_code

CLUSTER_S = 60.0
"""A cluster has to answer within this time."""
JOIN = "import sys, ray; ray.init(address=sys.argv[1], logging_level='error', log_to_driver=False)"

Nodes = Sequence[Mapping[str, float]]
"""What each node of a cluster has, by Ray's names: CPU, GPU, memory (bytes)."""


@dataclass(frozen=True)
class Resources:
    """`cpus` and `gpus` of each of `trainers` workers.

    `gpus` may be a fraction; `auto` divides the GPUs that Ray finds.
    """

    trainers: int
    cpus: int
    gpus: float | Literal["auto"]


def gpus_of(wanted: Resources, there: float) -> float:
    """GPUs for each trainer. `auto`: one, or an equal share of one when there are more trainers than GPUs."""
    if wanted.gpus != "auto":
        return wanted.gpus
    gpus = int(there)
    return 1.0 / math.ceil(wanted.trainers / gpus) if gpus else 0.0


def require_resources(wanted: Resources, nodes: Nodes, address: str | None) -> None:
    """Raise `ResourceError` if no node has what a trainer needs; Ray would wait for one forever."""
    if _that_fit(wanted, nodes):
        return
    most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in ("CPU", "GPU")}
    needs = {"CPU": float(wanted.cpus), "GPU": _gpus_each(wanted, nodes)}
    lacking = [f"{amount:g} {name}" for name, amount in needs.items() if amount > most[name]]
    needed = " and ".join(lacking or [f"{amount:g} {name}" for name, amount in needs.items()])
    where = f"the largest node of the Ray cluster at {address}" if address else "this machine"
    raise ResourceError(
        f"resources: each trainer needs {needed}, but {where} has {most['CPU']:g} CPU and {most['GPU']:g} GPU"
    )


def largest_memory_bytes(wanted: Resources, nodes: Nodes) -> int:
    """The memory that Ray gives to tasks on the largest of the nodes on which a trainer can run; 0 without one."""
    return int(max((node.get("memory", 0.0) for node in _that_fit(wanted, nodes)), default=0.0))


def _that_fit(wanted: Resources, nodes: Nodes) -> list[Mapping[str, float]]:
    gpus = _gpus_each(wanted, nodes)
    return [node for node in nodes if node.get("CPU", 0.0) >= wanted.cpus and node.get("GPU", 0.0) >= gpus]


def _gpus_each(wanted: Resources, nodes: Nodes) -> float:
    return gpus_of(wanted, sum(node.get("GPU", 0.0) for node in nodes))


def require_cluster(address: str, wait_s: float = CLUSTER_S) -> None:
    """Raise `ResourceError` unless a Ray cluster answers at `address` within `wait_s` seconds.

    Ray itself tries for a quarter of an hour and logs each attempt. So a process of its own tries first, which can be
    ended and whose output nobody sees.
    """
    where = f"no Ray cluster answers at {address} (--ray-address or RAY_ADDRESS)"
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "://" not in address:  # finds in a moment what is wrong most often
            socket.create_connection((host.strip("[]"), int(port)), wait_s).close()
        joined = subprocess.run(run_code(sys.executable, JOIN, address), capture_output=True, text=True, timeout=wait_s)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ResourceError(f"{where} within {wait_s:g} s") from None
    except OSError as error:
        raise ResourceError(f"{where}: {error.strerror or error}") from error
    if joined.returncode:
        raise ResourceError(f"{where}: {(joined.stderr.strip() or 'it gave no reason').splitlines()[-1]}")
