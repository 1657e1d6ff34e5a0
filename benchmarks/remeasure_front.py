"""Measure every point of a finished study's front again and compare the result with the value that the study shows.

    python benchmarks/remeasure_front.py quickstart

A point is inside if its new median CPU time is within the interval shown, and agrees if the two differ by no more than
both intervals together allow: the new value has an error of its own. Both are by the reference times of the study: the
agent's own may have moved since, and what a study shows moves with them.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys

from vitsearch.devices.cores import Cores
from vitsearch.devices.protocols import for_deployment
from vitsearch.search.open_device import open_device
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.stores import store_of
from vitsearch.study.front import Point, read_front
from vitsearch.study.lookup import opened
from vitsearch_agent.wire.paired import Milliseconds
from vitsearch_agent.wire.protocol import CONFIRM

METRIC = "cpu_ms_p50"
REPEAT = 500_000
"""Outside the repeats that a search uses, so that the agent measures again."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--repeat", type=int, default=0, help="raise it to measure again after a first call")
    options = parser.parse_args()
    disagree = 0
    with opened(options.study) as (study, ledger):
        space, front = study.space(), read_front(study, ledger)
        store = store_of(ledger)
        with open_device(study, space, Cores.shared(), print) as opened_device:
            (device,) = opened_device.devices
            for point in front.shown():
                artifact = _artifact(point, ledger)
                deployment = point.plan.deployment.with_options(tuple(artifact.detail.get("options", {}).items()))
                path = store.model(artifact.sha256)
                now = asyncio.run(
                    device.measure(path, deployment, for_deployment(CONFIRM, deployment), REPEAT + options.repeat)
                )
                results = DeviceResults(ledger, now.device_id)
                shown = results.as_known_now(now).shown_cpu_ms
                assert shown is not None, f"the CPU time of {point.name} was not counted"
                disagree += not _agrees(point, shown)
    return disagree


def _artifact(point: Point, ledger: Ledger) -> ArtifactRow:
    row = ledger.artifact(point.keys.artifact_key or "")
    assert row is not None, f"{point.name} has no artifact"
    return row


def _agrees(point: Point, now: Milliseconds) -> bool:
    shown, (low, high) = point.metrics.value(METRIC) or 0.0, point.metrics.intervals[METRIC]
    off = math.log(now.p50 / shown)
    is_inside = low <= now.p50 <= high
    agrees = is_inside or abs(off) <= math.hypot(_half_width(low, high), _half_width(now.low, now.high))
    verdict = "inside" if is_inside else "agrees" if agrees else "DIFFERS"
    was = f"{point.name:<10} shown {shown:.4f} ms [{low:.4f}, {high:.4f}]"
    print(f"{was}  now {now.p50:.4f} ms  {math.expm1(off):+.1%}  {verdict}", flush=True)
    return agrees


def _half_width(low: float | None, high: float | None) -> float:
    """Half an interval, in natural logarithms; 0 where there is none."""
    return math.log(high / low) / 2 if low and high else 0.0


if __name__ == "__main__":
    sys.exit(main())
