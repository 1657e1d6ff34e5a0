"""In which order a plan's operators are applied, and which plans cannot be built: the one place that knows both.

The order is that of what is published (each reads what the one before left):

    resolution, window    what the model sees; position and bias tables of the weights are resampled
    depth, embedding      whole blocks, then channels of the residual stream, are taken out
    heads, FFN            heads are sliced, hidden channels are cut
    compensation          closed form, from statistics of the unpruned model; then batch norms
    sparsity              small weights of what is left become zero, and stay zero
    tokens                dropped or merged behind some of the blocks that are left
    distillation          the fine-tune, if the plan is promoted
    quantization          last: ranges and rounding are those of the weights that ship
    export, measurement   of that artifact

What one backbone can take is said by its family (``supports``), what one runtime can take by
:func:`vitsearch.compress.quantization.precisions.supports`; here stands only what hangs on several parts of a plan.
The sampler asks the same questions, so nothing illegal is ever drawn. Plans that a person wrote are
read by :mod:`vitsearch.core.plan_file`.
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
TRAINED_PRECISIONS = frozenset({"int8_qat"})


def reasons(plan: Plan, supports: Supports) -> list[str]:
    """Every reason why ``plan`` cannot be built, in the order of the operators; none when it can."""
    try:
        unsupported = [reason for knob, value in _asked(plan) if (reason := supports(plan.backbone, knob, value))]
    except UnknownName as error:
        return [str(error)]
    unmade = [reason for d in plan.deployments if (reason := precisions.supports(d.runtime, d.precision)) is not None]
    found = [*_ratios(plan.compression), *unsupported, *_tokens(plan.compression), *_untrained(plan), *unmade]
    return list(dict.fromkeys(found))  # no window suits a resolution that the backbone refuses already


def refuse(plan: Plan, supports: Supports) -> None:
    """:class:`PlanError` with every reason when ``plan`` cannot be built."""
    found = reasons(plan, supports)
    if found:
        raise PlanError("\n".join(["the plan cannot be built:", *(f"  {reason}" for reason in found)]))


def _asked(plan: Plan) -> Iterator[tuple[str, Any]]:
    """Knobs and values that are the backbone's to grant, in the order of the operators."""
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
            yield f"{item.name} {value:g} is no share that can be cut; allowed: 0 to {HIGHEST_RATIO}"
    if cut.width_multiple < 1:
        yield f"width_multiple {cut.width_multiple}; allowed: 1 or more"


def _tokens(cut: Compression) -> Iterator[str]:
    if cut.token_pruning_ratio and cut.token_pruning_method is None:
        yield f"token_pruning_ratio {cut.token_pruning_ratio:g} without a token_pruning_method"
    if not cut.token_pruning_ratio and (cut.token_pruning_method or cut.token_pruning_at):
        yield "a token_pruning_method or token_pruning_at without a token_pruning_ratio"
    if any(after <= before for before, after in itertools.pairwise(cut.token_pruning_at)):
        yield f"token_pruning_at {list(cut.token_pruning_at)} does not rise; name each block once, in order"


def _untrained(plan: Plan) -> Iterator[str]:
    """What is learned cannot be had from a recipe that trains nothing."""
    if max(plan.recipe.rungs, default=0) > 0:
        return
    if plan.compression.token_pruning_method in TRAINED_METHODS:
        yield f"token_pruning_method {plan.compression.token_pruning_method} is trained, and no rung is above 0"
    for deployment in plan.deployments:
        if deployment.precision in TRAINED_PRECISIONS:
            yield f"precision {deployment.precision} is trained, and no rung is above 0"
