"""How much memory the next stage of a kind asks Ray for: what earlier ones took, and a margin.

Ray does not limit a worker to what it asks for. It starts only as many stages on a node as the node has memory for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vitsearch.stages import Job
from vitsearch.storage.stage_cost import StageKind

MARGIN = 0.25
"""Beyond the largest peak so far: peaks between two samples are not seen, and plans of a backbone differ."""
STEP_BYTES = 100 * 10**6
"""Requests are multiples of this: Ray keeps idle workers for each size of request apart."""
GROWTH = 1.5
"""A stage that a node had no memory for asks for this many times as much."""


def kind_of(job: Job[Any]) -> StageKind:
    """The stage of a job, and the backbone that it works on (empty where it works on the data alone)."""
    return StageKind(job.stage, job.backbone)


class MemoryDemand:
    """One per runner. `peaks_mb` are those of earlier runs, in 10^6 bytes."""

    def __init__(self, peaks_mb: Mapping[StageKind, float]) -> None:
        self._peaks_mb = dict(peaks_mb)

    def request_bytes(self, kind: StageKind, node_bytes: int) -> int:
        """What a stage asks for, at most `node_bytes`, the memory of the largest node: Ray would wait forever for
        more. 0 for a kind that was never measured."""
        peak_bytes = self._peaks_mb.get(kind, 0.0) * 1e6
        return min(math.ceil(peak_bytes * (1.0 + MARGIN) / STEP_BYTES) * STEP_BYTES, node_bytes)

    def learn(self, kind: StageKind, peak_mb: float | None) -> None:
        """A stage has ended and took `peak_mb` (None: not measured)."""
        if peak_mb is not None:
            self._peaks_mb[kind] = max(self._peaks_mb.get(kind, 0.0), peak_mb)

    def grow(self, kind: StageKind, node_bytes: int) -> None:
        """A stage was ended because its node ran out of memory: the next ones ask for more, the first time for at least
        half of the largest node."""
        half_mb = node_bytes / 2.0 / (1.0 + MARGIN) / 1e6
        self._peaks_mb[kind] = max(self._peaks_mb.get(kind, 0.0) * GROWTH, half_mb)
