"""The four keys under which the results of a resolved plan are stored: sha256 of canonical JSON.

    key            made from                                                   names
    weights_key    indices, starting weights, data, teacher, recipe, seed      trainings and rungs
    qat_key        a training and its rung, settings, calibration              trainings for static int8
    graph_key      counts, resolution, precision, runtime, options, opset      measurements
    artifact_key   weights_key, graph_key and the calibration                  artifacts, accuracies

A key contains no path and no library version; contents enter as digests. Raise ``SCHEMA`` by hand when the meaning of
a key changes. Golden values: ``tests/search/unit/core/test_keys.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from vitsearch.core.plan import Deployment, Plan, QuantizationAware
from vitsearch.core.precisions import VERSIONED
from vitsearch.core.resolve import ResolvedPlan
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1


@dataclass(frozen=True)
class DataIdentity:
    """The properties of a data set that keys depend on."""

    fingerprint: str
    classes: int
    channels: int


def weights_key(
    resolved: ResolvedPlan, plan: Plan, start: str, teacher: str | None, data: DataIdentity, refit: str | None = None
) -> str:
    """The key of a training. ``start`` and ``teacher`` are digests of weights; the precision does not enter.

    ``refit`` names the method that makes rung 0 from a pruned model; None when nothing is pruned.
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
    """The key of a quantization-aware training that starts from the float training ``weights`` at ``rung``.

    ``calibration`` is the digest of the images from which the ranges start. All deployments that need this training
    share it.
    """
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


def graph_key(
    resolved: ResolvedPlan, deployment: Deployment, data: DataIdentity, opset: int, version: str | None = None
) -> str:
    """The key of a measurement. Weights do not enter, because the cost of a graph does not depend on them.

    ``version`` is that of the runtime on the device; it enters where the form of the file depends on it. So do the
    quantized layers, where a file can have one of several sets of them.
    """
    ops = deployment.quantized_ops
    return digest(
        {
            "schema": SCHEMA,
            "key": "graph",
            "shape": resolved.kept_counts(deployment.runtime),
            "classes": data.classes,
            "channels": data.channels,
            "runtime": deployment.runtime,
            "provider": deployment.provider,
            "batch": deployment.batch,
            "options": dict(deployment.options),
            "opset": opset,
            "version": version if deployment.runtime in VERSIONED else None,
        }
        | ({} if ops is None else {"quantized_ops": ops})
    )


def artifact_key(weights: str, rung: int, graph: str, calibration: str | None) -> str:
    """The key of an exported file: trained weights, graph and, for static int8, the digest of the calibration."""
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
