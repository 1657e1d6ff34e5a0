"""The four keys that name what follows from a resolved plan: sha256 of canonical JSON.

    weights_key    indices, starting weights, data, teacher, recipe, seed      trainings and rungs
    qat_key        a training and its rung, settings, calibration              trainings for static int8
    graph_key      counts, resolution, precision, runtime, options, opset      measurements
    artifact_key   both, and the calibration                                   artifacts, accuracies

No key holds a path or a library version; contents enter as digests. ``SCHEMA`` is raised by hand
when the meaning of a key changes. Golden values: ``tests/search/core/test_keys.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from vitsearch.core.plan import Deployment, Plan, QuantizationAware
from vitsearch.core.resolve import ResolvedPlan
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1


@dataclass(frozen=True)
class DataIdentity:
    """The part of a data set that keys depend on."""

    fingerprint: str
    classes: int
    channels: int


def weights_key(
    resolved: ResolvedPlan, plan: Plan, start: str, teacher: str | None, data: DataIdentity, refit: str | None = None
) -> str:
    """Names a training. ``start`` and ``teacher`` are digests of weights; precision does not enter.

    ``refit`` names how rung 0 is made of a model that is cut; None where nothing is.
    """
    return digest(
        {
            "schema": SCHEMA,
            "key": "weights",
            "structure": resolved.kept_indices(),
            "refit": refit,
            "start": start,
            "teacher": teacher if plan.distillation != "none" else None,
            "distillation": plan.distillation,
            "recipe": asdict(plan.recipe),
            "data": asdict(data),
        }
    )


def qat_key(weights: str, rung: int, settings: QuantizationAware, calibration: str) -> str:
    """Names a training with rounding in place, from the float training ``weights`` at ``rung``; ``calibration``
    is the digest of the images that its ranges start from. Shared by all deployments that want it."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "qat",
            "weights": weights,
            "rung": rung,
            "settings": asdict(settings),
            "calibration": calibration,
        }
    )


def graph_key(resolved: ResolvedPlan, deployment: Deployment, data: DataIdentity, opset: int) -> str:
    """Names a measurement: the same graph costs the same whatever its weights are."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "graph",
            "shape": resolved.kept_counts(),
            "classes": data.classes,
            "channels": data.channels,
            "runtime": deployment.runtime,
            "provider": deployment.provider,
            "options": dict(deployment.options),
            "opset": opset,
        }
    )


def artifact_key(weights: str, rung: int, graph: str, calibration: str | None) -> str:
    """Names an exported file: trained weights, graph and, for static int8, the calibration digest."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "artifact",
            "weights": weights,
            "rung": rung,
            "graph": graph,
            "calibration": calibration,
        }
    )
