"""Measure the overhead of the device agent, in CPU time of its processes, and compare it with its limits.

python benchmarks/agent_overhead.py

Needs no torch: run it on a device with PYTHONPATH=evaluators.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.measure.child import process_usage
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

NO_OP = ONE_PROCESS._replace(id="no-op", warmup_min_runs=0, warmup_min_s=0.0, min_runs=11, min_s=0.0)
JOB_MOST_MS, IDLE_MOST_MB, IDLE_MOST_SHARE, UPLOAD_MOST_S = 100.0, 30.0, 0.001, 0.4
UPLOAD_BYTES = 20 << 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--uploads", type=int, default=7)
    parser.add_argument("--idle-s", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedAgent(str(Path(folder) / "state")) as agent:
        with agent.client("overhead") as client:
            client.device()  # waits until the runtimes have been checked
            met = [
                reported(
                    "20 MiB upload: agent and client", upload_s(agent, client, options.uploads), UPLOAD_MOST_S, "s"
                ),
                reported(
                    "known artifact, no-op job: agent and child", job_ms(agent, client, options.jobs), JOB_MOST_MS, "ms"
                ),
            ]
        met += [
            reported("idle agent: resident", resident_mb(agent), IDLE_MOST_MB, "MB"),
            reported("first canary: agent alone, share of a minute", canary_share(agent), IDLE_MOST_SHARE, ""),
            reported(
                "idle agent, nothing due: share of a core", idle_share(agent, options.idle_s), IDLE_MOST_SHARE, ""
            ),
            reported("idle agent afterwards: resident", resident_mb(agent), IDLE_MOST_MB, "MB"),
        ]
    return 0 if all(met) else 1


def reported(what: str, value: float, most: float, unit: str) -> bool:
    print(f"{what:<46}{value:>10.4g} {unit:<3} at most {most:g}{'' if value <= most else '   MISSED'}", flush=True)
    return value <= most


def job_ms(agent: EmbeddedAgent, client: DeviceClient, jobs: int) -> float:
    """The mean over many jobs, because the time of ended children is counted in ticks of 10 ms."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(1000))
        file.flush()
        client.measure(file.name, "noop", {"busy_us": 0}, NO_OP)
        before = cpu_s(agent) + children_s(agent)
        for repeat in range(1, jobs + 1):
            client.measure(file.name, "noop", {"busy_us": 0}, NO_OP, repeat=repeat)
        return 1e3 * (cpu_s(agent) + children_s(agent) - before) / jobs


def upload_s(agent: EmbeddedAgent, client: DeviceClient, uploads: int) -> float:
    """The median; each file is new to the agent."""

    def upload_once() -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            client.upload(file.name)

    spent = []
    for _ in range(uploads):
        content = os.urandom(UPLOAD_BYTES)
        spent.append(_spent_s(agent, upload_once))
    return statistics.median(spent)


def idle_share(agent: EmbeddedAgent, seconds: float) -> float:
    before, start = cpu_s(agent), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(agent) - before) / (time.monotonic() - start)


def canary_share(agent: EmbeddedAgent) -> float:
    """Share of a core that the agent takes in the minute after its jobs, which ends with the first canary.

    The canary's own processes do not count: they are a measurement, and run only after jobs.
    """
    before, children_before, start = cpu_s(agent), children_s(agent), time.monotonic()
    while children_s(agent) == children_before or any_child(agent):
        time.sleep(1.0)
    share = (cpu_s(agent) - before) / (time.monotonic() - start)
    print(f"{'first canary: its processes':<46}{children_s(agent) - children_before:>10.4g} s", flush=True)
    return share


def resident_mb(agent: EmbeddedAgent) -> float:
    resident = process_usage.current_rss_mb(f"/proc/{agent.pid}")
    assert resident.value_mb is not None, resident.reason
    return resident.value_mb


def cpu_s(agent: EmbeddedAgent) -> float:
    """CPU seconds of all threads of the agent, ended ones included."""
    return time.clock_gettime(_process_clock(agent.pid))


def _process_clock(pid: int) -> int:
    """The id of the CPU clock of another process on Linux, as in clock_getcpuclockid(3)."""
    return (~pid << 3) | 2


def children_s(agent: EmbeddedAgent) -> float:
    """CPU seconds of the children that the agent has waited for."""
    fields = Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_S


def any_child(agent: EmbeddedAgent) -> bool:
    return any(path.read_text() for path in Path(f"/proc/{agent.pid}/task").glob("*/children"))


def _spent_s(agent: EmbeddedAgent, run: Callable[[], None]) -> float:
    """CPU time of agent and client together."""
    agent_before, own_before = cpu_s(agent), time.process_time()
    run()
    return cpu_s(agent) - agent_before + time.process_time() - own_before


if __name__ == "__main__":
    raise SystemExit(main())
