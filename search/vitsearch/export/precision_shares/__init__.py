"""The share of a file's multiply-adds (MACs) that its runtime computes in each precision.

A precision names what was asked for. What runs can differ much: "int8" of a model of convolutions may leave 99 % of
its MACs in fp32. The shares are read from the graph that the runtime itself has optimized, where it shows one, and
from the file where it does not.

    onnx_nodes.py     the operators of an ONNX graph, with the shapes that they have in a run
    onnx_macs.py      their MACs

The graph of a runtime is read in its folder (`vitsearch.targets.NAME.shares`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from vitsearch.core.plan import Deployment
from vitsearch.core.targets import TARGETS
from vitsearch.export.base import ExportedFile
from vitsearch.export.evaluate import OpenFile
from vitsearch.registry import loaded


def by_precision(file: ExportedFile, deployment: Deployment, opened: OpenFile | None = None) -> dict[str, float]:
    """Give the share of each precision.

    Args:
        file: What was written.
        deployment: Where and how it runs.
        opened: The file as its runtime has loaded it here, if it has.

    Returns:
        Precision ("fp32", "fp16", "bf16", "int8") -> its share of the MACs, largest first. Empty where the processor of
        the deployment is not in this machine, and where the runtime shows nothing.
    """
    counts = macs(file, deployment, opened)
    total = sum(counts.values())
    shares = Counter({name: count / total for name, count in counts.items() if count} if total else {})
    return dict(shares.most_common())


def macs(file: ExportedFile, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run of the file; empty where they are unknown. The arguments are as above."""
    target = TARGETS.get(deployment.runtime)
    if target is None or target.shares is None:
        return {}
    counted: Mapping[str, int] = loaded(target.shares)(file.path, deployment.with_options(file.options), opened)
    return counted
