"""The order in which the operators of a plan are applied, and the reasons why a plan cannot be built.

The order is that of the published methods. Each operator works on the result of the one before:

    resolution, window    set the input; the position and bias tables of the weights are resampled
                          and batch norms recalibrated in the unpruned model
    depth, embedding      remove whole blocks, then channels of the residual stream
    heads, FFN            slice heads, cut hidden channels
    compensation          closed form, from statistics of the unpruned model
    tokens                are dropped or merged after some of the remaining blocks, and the fit follows them
    sparsity              sets small weights to zero, where they stay; then batch norms are recalibrated
    distillation          the fine-tuning, if the plan is promoted
    quantization          last, because ranges and rounding must be those of the final weights
    export, measurement   of the resulting artifact

A family says what its backbones support (`supports`), and `vitsearch.core.precisions.supports` what a runtime
supports. This module has only the rules that concern several parts of a plan. The sampler checks the same rules, so it
never proposes an invalid plan. Plans written by a person are read by
`vitsearch.space.plan_file`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from vitsearch.core import precisions
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.errors import NetworkError, PlanError, UnknownName

Supports = Callable[[str, str, Any], str | None]
HIGHEST_RATIO = 0.95
TRAINED_METHODS = frozenset({"dynamicvit"})


class Reason(NamedTuple):
    """Why one value of a plan is refused; `knob` is its name in a space file."""

    knob: str
    text: str

    def __str__(self) -> str:
        return f"{self.knob}: {self.text}"


def reasons(plan: Plan, supports: Supports) -> list[Reason]:
    """Every reason why `plan` cannot be built, in the order of the operators; empty when it can be built."""
    problems = [
        *_ratios(plan.compression),
        *_unsupported(plan, supports),
        *_tokens(plan.compression),
        *_untrained(plan),
    ]
    for deployment in plan.deployments:
        if (reason := _refused_precision(deployment)) is not None:
            problems.append(Reason("quantization", reason))
        if (reason := precisions.supports_provider(deployment.runtime, deployment.provider)) is not None:
            problems.append(Reason("provider", reason))
        if (reason := precisions.supports_batch(deployment.runtime, deployment.provider, deployment.batch)) is not None:
            problems.append(Reason("batch", reason))
        if (reason := _refused_ops(deployment)) is not None:
            problems.append(Reason("quantized_ops", reason))
    return problems


def possible_ops(backbone: str, runtime: str, provider: str, precision: str, supports: Supports) -> tuple[str, ...]:
    """The layers that int8 files of a backbone may quantize, the usual ones first; empty where there is no choice."""
    words = precisions.quantized_ops_of(runtime, provider, precision)
    return tuple(word for word in words if supports(backbone, "quantized_ops", word) is None)


def refuse(plan: Plan, supports: Supports) -> None:
    """Raise `PlanError` with every reason when `plan` cannot be built."""
    problems = reasons(plan, supports)
    if problems:
        raise PlanError("\n".join(["the plan cannot be built:", *(f"  {reason}" for reason in problems)]))


def _unsupported(plan: Plan, supports: Supports) -> Iterator[Reason]:
    """What the backbone does not support; only the first of several knobs that give the same reason."""
    seen = set()
    try:
        for knob, value in _knob_values(plan):
            reason = supports(plan.backbone, knob, value)
            if reason is not None and reason not in seen:
                seen.add(reason)
                why = reason.removeprefix(f"{plan.backbone} ")
                yield Reason(knob.partition("@")[0], f"{plan.backbone} does not support {value_text(value)}: {why}")
    except (NetworkError, UnknownName) as error:
        yield Reason("backbone", str(error))


def _knob_values(plan: Plan) -> Iterator[tuple[str, Any]]:
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
        yield "backend", deployment.runtime
        yield "batch", "open" if deployment.batch is None else str(deployment.batch)
        yield "quantization", deployment.precision
        if deployment.quantized_ops is not None:
            yield "quantized_ops", deployment.quantized_ops


def _refused_ops(deployment: Deployment) -> str | None:
    """Why these layers cannot be quantized; None where the precision is refused, which is reported."""
    if _refused_precision(deployment) is not None:
        return None
    return precisions.supports_quantized_ops(
        deployment.runtime, deployment.provider, deployment.precision, deployment.quantized_ops
    )


def _refused_precision(deployment: Deployment) -> str | None:
    return precisions.supports_on(deployment.runtime, deployment.provider, deployment.precision)


def _ratios(cut: Compression) -> Iterator[Reason]:
    for item in fields(cut):
        value = getattr(cut, item.name)
        if item.name.endswith("_ratio") and not 0 <= value <= HIGHEST_RATIO:
            yield Reason(item.name, f"{value:g} is out of range; allowed: 0 to {HIGHEST_RATIO}")
    if cut.width_multiple < 1:
        yield Reason("width_multiple", f"{cut.width_multiple} is out of range; allowed: 1 or more")


def _tokens(cut: Compression) -> Iterator[Reason]:
    if cut.token_pruning_ratio and cut.token_pruning_method is None:
        yield Reason("token_pruning_method", f"a token_pruning_ratio of {cut.token_pruning_ratio:g} needs a method")
    for knob in ("token_pruning_method", "token_pruning_at"):
        if not cut.token_pruning_ratio and (value := getattr(cut, knob)):
            yield Reason(knob, f"{value_text(value)} has no effect without a token_pruning_ratio above 0")
    if any(after <= before for before, after in itertools.pairwise(cut.token_pruning_at)):
        at = value_text(cut.token_pruning_at)
        yield Reason("token_pruning_at", f"{at} does not rise; list each block once, in ascending order")


def value_text(value: Any) -> str:
    """Write the value of a knob as messages show it.

    Args:
        value: A word, a number, a size of images, or several numbers.

    Returns:
        As a space file has it: words in quotes, lists in brackets.
    """
    if isinstance(value, ImageSize):
        return str(value)
    return repr(list(value) if isinstance(value, tuple) else value)


def _untrained(plan: Plan) -> Iterator[Reason]:
    """Methods and precisions that are trained need a recipe with a rung above 0."""
    if max(plan.recipe.rungs, default=0) > 0:
        return
    method = plan.compression.token_pruning_method
    if method in TRAINED_METHODS:
        yield Reason("token_pruning_method", f"{method!r} needs training, but no rung of the recipe is above 0")
    for deployment in plan.deployments:
        if deployment.precision in precisions.TRAINED:
            text = f"{deployment.precision!r} needs training, but no rung of the recipe is above 0"
            yield Reason("quantization", text)
