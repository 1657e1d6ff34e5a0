"""The values that a plan has for the knobs of a space file, by the names of the knobs."""

from __future__ import annotations

from dataclasses import replace

from vitsearch.core.metrics import NEEDS, split
from vitsearch.core.plan import Plan

NUMBERS = (
    "resolution",
    "window_size",
    "head_pruning_ratio",
    "ffn_pruning_ratio",
    "depth_pruning_ratio",
    "embed_pruning_ratio",
    "token_pruning_ratio",
    "threads",
    "streams",
)
"""Knobs with an order; the values of all others are words."""
SHAPE = "image_shape"
"""The knob that tells resolutions of as many pixels apart."""
BY_FACTORS = frozenset({"threads", "streams"})
"""Numbers that differ by factors: samplers see their logarithms."""


def knob_values(plan: Plan) -> dict[str, str | float | None]:
    """Every knob with the value of `plan`; None for what its backbone does not have or its other choices leave out,
    such as windows, or the method of token pruning where no token is pruned. The resolution is the side of a square of
    as many pixels; images that are no squares have their shape beside it."""
    cut, deployment = plan.compression, plan.deployment
    return {
        "backbone": plan.backbone,
        "resolution": plan.resolution.side,
        SHAPE: None if plan.resolution.is_square else str(plan.resolution),
        "window_size": None if plan.window_size is None else float(plan.window_size),
        "head_pruning_ratio": cut.head_pruning_ratio,
        "ffn_pruning_ratio": cut.ffn_pruning_ratio,
        "depth_pruning_ratio": cut.depth_pruning_ratio,
        "embed_pruning_ratio": cut.embed_pruning_ratio,
        "pruning_scope": cut.scope,
        "weight_sparsity": cut.weight_sparsity,
        "token_pruning_ratio": cut.token_pruning_ratio,
        "token_pruning_method": cut.token_pruning_method,
        "token_pruning_at": ",".join(map(str, cut.token_pruning_at)),
        "distillation": plan.distillation,
        "quantization": deployment.precision,
        "backend": deployment.runtime,
        "provider": deployment.provider,
        "quantized_ops": deployment.quantized_ops,
        "batch": "open" if deployment.batch is None else str(deployment.batch),
        "threads": float(deployment.threads),
        "streams": None if deployment.streams is None else float(deployment.streams),
    }


def plan_for(metric: str, plan: Plan) -> Plan:
    """A plan without the choices that cannot change a metric: how a file is run, where the metric is one of the file;
    the streams, where it is not one of several runs in flight; the distillation, where weights do not matter.

    Args:
        metric: The name of a metric, with or without a device.
        plan: The plan.

    Returns:
        The plan, in which these choices have one value for all plans.
    """
    kind = split(metric)[0]
    if not kind.is_quality:
        plan = replace(plan, distillation="none")
    if not kind.on_device:
        return replace(plan, deployments=(plan.deployment.as_exported(),))
    if kind.name in NEEDS["throughput"]:
        return plan
    return replace(plan, deployments=(replace(plan.deployment, streams=None),))
