"""The choices that make a plan, by the words of a space file."""

from __future__ import annotations

from vitsearch.core.plan import Plan

Choice = str | float | int
NONE = "none"


def knobs(plan: Plan) -> dict[str, Choice]:
    """What was chosen for a plan. A value that a plan does not have is ``none``."""
    cut, deployment = plan.compression, plan.deployment
    return {
        "backbone": plan.backbone,
        "resolution": plan.resolution,
        "window_size": plan.window_size or NONE,
        "head_pruning_ratio": cut.head_pruning_ratio,
        "ffn_pruning_ratio": cut.ffn_pruning_ratio,
        "depth_pruning_ratio": cut.depth_pruning_ratio,
        "embed_pruning_ratio": cut.embed_pruning_ratio,
        "pruning_scope": NONE if cut.is_identity else cut.scope,
        "token_pruning_ratio": cut.token_pruning_ratio,
        "token_pruning_method": (cut.token_pruning_method or NONE) if cut.token_pruning_ratio else NONE,
        "token_pruning_at": ",".join(map(str, cut.token_pruning_at)) or NONE,
        "weight_sparsity": cut.weight_sparsity,
        "distillation": plan.distillation,
        "quantization": deployment.precision,
        "backend": deployment.runtime,
        "provider": deployment.provider,
        "batch": "open" if deployment.batch is None else deployment.batch,
    }
