"""The order in which the operators of a plan are applied, and the reasons why a plan cannot be built.

The order is that of the published methods. Each operator works on the result of the one before:

    resolution, window    set the input; the position and bias tables of the weights are resampled
    depth, embedding      remove whole blocks, then channels of the residual stream
    heads, FFN            slice heads, cut hidden channels
    compensation          closed form, from statistics of the unpruned model; then batch norms are recalibrated
    sparsity              sets small weights to zero, where they stay
    tokens                are dropped or merged after some of the remaining blocks
    distillation          the fine-tuning, if the plan is promoted
    quantization          last, because ranges and rounding must be those of the final weights
    export, measurement   of the resulting artifact

A family says what its backbones support (``supports``), and :func:`vitsearch.core.precisions.supports` what a runtime
supports. This module has only the rules that concern several parts of a plan. The sampler checks the same rules, so it
never proposes an invalid plan. Plans written by a person are read by :mod:`vitsearch.core.plan_file`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from vitsearch.core import precisions
from vitsearch.core.plan import Compression, Plan
from vitsearch.errors import PlanError, UnknownName

Supports = Callable[[str, str, Any], str | None]
HIGHEST_RATIO = 0.95
TRAINED_METHODS = frozenset({"dynamicvit"})


def reasons(plan: Plan, supports: Supports) -> list[str]:
    """Every reason why ``plan`` cannot be built, in the order of the operators; empty when it can be built."""
    try:
        unsupported = [reason for knob, value in _asked(plan) if (reason := supports(plan.backbone, knob, value))]
    except UnknownName as error:
        return [str(error)]
    unmade = [reason for d in plan.deployments if (reason := precisions.supports(d.runtime, d.precision)) is not None]
    found = [*_ratios(plan.compression), *unsupported, *_tokens(plan.compression), *_untrained(plan), *unmade]
    return list(dict.fromkeys(found))  # resolution and window may give the same reason


def refuse(plan: Plan, supports: Supports) -> None:
    """Raise :class:`~vitsearch.errors.PlanError` with every reason when ``plan`` cannot be built."""
    found = reasons(plan, supports)
    if found:
        raise PlanError("\n".join(["the plan cannot be built:", *(f"  {reason}" for reason in found)]))


def _asked(plan: Plan) -> Iterator[tuple[str, Any]]:
    """The knobs and values that the backbone must support, in the order of the operators."""
    cut = plan.compression
    yield "weights", plan.weights
    yield "resolution", plan.resolution
    if plan.window_size is not None:
        yield f"window_size@{plan.resolution}", plan.window_size
    for knob in ("depth_pruning_ratio", "embed_pruning_ratio", "head_pruning_ratio", "ffn_pruning_ratio"):
        yield knob, getattr(cut, knob)
    yield "weight_sparsity", cut.weight_sparsity
    yield "token_pruning_ratio", cut.token_pruning_ratio
    if cut.token_pruning_ratio and cut.token_pruning_method:
        yield "token_pruning_method", cut.token_pruning_method
    if cut.token_pruning_ratio and cut.token_pruning_at:
        yield "token_pruning_at", cut.token_pruning_at
    yield "distillation", plan.distillation
    for deployment in plan.deployments:
        yield "quantization", deployment.precision


def _ratios(cut: Compression) -> Iterator[str]:
    for item in fields(cut):
        value = getattr(cut, item.name)
        if item.name.endswith("_ratio") and not 0 <= value <= HIGHEST_RATIO:
            yield f"{item.name} {value:g} is out of range; allowed: 0 to {HIGHEST_RATIO}"
    if cut.width_multiple < 1:
        yield f"width_multiple {cut.width_multiple} is out of range; allowed: 1 or more"


def _tokens(cut: Compression) -> Iterator[str]:
    if cut.token_pruning_ratio and cut.token_pruning_method is None:
        yield f"token_pruning_ratio {cut.token_pruning_ratio:g} needs a token_pruning_method"
    if not cut.token_pruning_ratio and (cut.token_pruning_method or cut.token_pruning_at):
        yield "token_pruning_method and token_pruning_at need a token_pruning_ratio above 0"
    if any(after <= before for before, after in itertools.pairwise(cut.token_pruning_at)):
        yield f"token_pruning_at {list(cut.token_pruning_at)} does not rise; list each block once, in ascending order"


def _untrained(plan: Plan) -> Iterator[str]:
    """Methods and precisions that are trained need a recipe with a rung above 0."""
    if max(plan.recipe.rungs, default=0) > 0:
        return
    method = plan.compression.token_pruning_method
    if method in TRAINED_METHODS:
        yield f"token_pruning_method {method} needs training, but no rung of the recipe is above 0"
    for deployment in plan.deployments:
        if deployment.precision in precisions.TRAINED:
            yield f"precision {deployment.precision} needs training, but no rung of the recipe is above 0"
