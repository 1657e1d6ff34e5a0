"""A plan resolved on its backbone: what every later stage of a trial needs."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys
from vitsearch.pipeline.jobs import CompressionSpec
from vitsearch.pipeline.shared_stages import SharedParts


@dataclass(frozen=True)
class ResolvedTrial:
    """``keys`` has no artifact yet; ``shared`` is what all trials of this backbone, resolution and window have."""

    plan: Plan
    shared: SharedParts
    spec: CompressionSpec
    keys: Keys
