"""Sequential refit: fit a cut model in closed form, layer by layer, on the outputs of the layers already fitted.

Base and cut model see the same images. A consumer (`proj` or `fc2`) whose output y is added to the residual
stream z is fitted so that the stream behind it equals that of the base:

    target       T = y_base + z_base - z
    weights      W' = W + (T - y)^T A / n (A^T A / n + R I)^-1
    constant     b' = mean(T) - W' mean(A)

A is the input of the consumer in the cut model, centred where the consumer has a constant, R = ridge x mean of the
diagonal, and W comes from the parallel refit (`vitsearch.compress.refit`). The target also corrects the remaining
error of the layers in front, which a fit to the base's own output would not. Last, the classifier is fitted to the
logits of the base. No labels, no gradient step. Where the cut model drops or fuses tokens, the target of a remaining
token is the base's value for it.

The order of work is that of OBC and SparseGPT (Frantar et al. 2022, 2023): each layer is fitted on the activations of
the model as pruned so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitsearch.compress import least_squares, matrices
from vitsearch.compress.stream import Stream, streams
from vitsearch.compress.tokens.base import TokenBlock
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.models.backbone import Backbone, BlockUnits, Branch
from vitsearch.models.classifier import class_count, classifiers_of

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

RIDGE, CLASSIFIER_RIDGE = 1e-2, 1e-1
UNCHANGED = 1e-6
"""Share of the norm of the stream below which an error is float32 noise: nothing in front of the layer was cut."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer to fit; `norm` is the batch norm that holds its constant, `branch` where its output is added."""

    layer: Layer
    norm: nn.Module | None = None
    branch: Branch | None = None
    ridge: float = RIDGE


@dataclass(frozen=True, eq=False)
class _Seen:
    """Inputs and output of a layer in one pass; `before` is the stream in front of its branch."""

    inputs: torch.Tensor
    output: torch.Tensor
    before: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class FitTarget:
    """`total` (images, positions, outputs): the output of the layer in the base plus the stream in front of it, in
    the scale and layout of the output. `stream` describes that layout."""

    stream: Stream | None
    total: torch.Tensor


Targets = Mapping[int, FitTarget]
"""By index of the layer; float32, together as large as the inputs of all blocks for all images."""
Reduction = Callable[[torch.Tensor], torch.Tensor]
"""The linear map of a token-pruning block: (images, tokens, outputs) to fewer tokens, the same in every output."""
Alongside = Callable[[Sequence[Reduction]], AbstractContextManager[None]]
See = Callable[[int, Fitted, _Seen], "torch.Tensor | None"]


def targets(base: nn.Module, backbone: Backbone, images: torch.Tensor, embed: Sequence[int] = ()) -> Targets:
    """The targets that an unpruned model gives for `images` (n, channels, height, width), normalised.

    `embed` restricts them to the channels of the stream that are kept; empty means all.
    """
    layers = _layers(base, backbone)
    branches = [(it.layer, it.branch) if it is not None and it.branch is not None else None for it in layers]
    base_streams = streams(base, branches, images[:1])
    by_layer: dict[int, FitTarget] = {}

    def keep(index: int, fitted: Fitted, seen: _Seen) -> None:
        stream, total = base_streams[index], matrices.rows(fitted.layer, seen.output.clone())
        if stream is not None and seen.before is not None:
            total = total + stream.gathered(fitted.layer, seen.before, seen.output.shape)
        if embed and fitted.branch is not None:
            stream, total = stream and stream.restricted(embed), total[..., list(embed)]
        by_layer[index] = FitTarget(stream, total)

    with torch.no_grad(), _watched(layers, keep):
        base.eval()(images)
    return by_layer


def fit(
    pruned: nn.Module, backbone: Backbone, wanted: Targets, images: torch.Tensor, alongside: Alongside | None = None
) -> None:
    """Fit every consumer of `pruned` behind the first cut, and its classifier, in place.

    `wanted` are the targets of its base on the same `images` (n, channels, height, width), which are shown all at once.
    Layers in front of the first cut stay as they are, and so do those that share a weight. `alongside` is a context
    that fits other layers in the same pass; it gets the reductions of the token-pruning blocks that have run.
    `StageError` when a fit is not finite."""

    reductions: list[Reduction] = []

    def fit_layer(index: int, fitted: Fitted, seen: _Seen) -> torch.Tensor:
        return _fit(fitted, wanted[index], seen, reductions)

    shared = _shared_weights(pruned)
    layers = [
        it if it is not None and index in wanted and it.layer.weight not in shared else None
        for index, it in enumerate(_layers(pruned, backbone))  # one that was too wide to fit may have become narrow
    ]
    others = alongside(reductions) if alongside else nullcontext()
    with torch.no_grad(), _reducing(pruned, reductions), _watched(layers, fit_layer), others:
        pruned.eval()(images)


def follows(resolved: ResolvedPlan) -> bool:
    """Whether to fit the model after it has lost tokens, to the base's values for the tokens that it keeps.

    With `tome` the model is fitted before: a merged token has no counterpart in the base, and the mean of several
    tokens is a poor target (KL .071 instead of .068 without).
    """
    return resolved.token_pruning_method in ("topk", "evit", "dynamicvit")


def _layers(model: nn.Module, backbone: Backbone) -> list[Fitted | None]:
    """Two layers for each block, then the classifiers; a base and its cut model have the same indices."""
    blocks = [layer for unit in backbone.units(model) for layer in _of_block(unit)]
    heads = (
        Fitted(each, ridge=CLASSIFIER_RIDGE) if matrices.can_be_fitted(each) else None for each in classifiers(model)
    )
    return [*blocks, *heads]


def _shared_weights(model: nn.Module) -> set[nn.Parameter]:
    """The parameters that several modules of a model have."""
    owners = Counter(values for module in model.modules() for values in module.parameters(recurse=False))
    return {values for values, count in owners.items() if count > 1}


def _of_block(unit: BlockUnits) -> tuple[Fitted | None, Fitted | None]:
    return (
        _if_fitted(unit.proj, unit.proj_norm, unit.proj_branch),
        _if_fitted(unit.fc2, unit.fc2_norm, unit.fc2_branch),
    )


def _if_fitted(layer: Layer | None, norm: nn.Module | None, branch: Branch | None) -> Fitted | None:
    return Fitted(layer, norm, branch) if layer is not None and matrices.can_be_fitted(layer) else None


def classifiers(model: nn.Module) -> list[nn.Linear]:
    """The linear classifier of `model`, or the two of a distilled model, without the layers in front of them."""
    layers = [layer for head in classifiers_of(model) for layer in head.modules() if isinstance(layer, nn.Linear)]
    return [layer for layer in layers if layer.out_features == class_count(model)]


def _fit(fitted: Fitted, target: FitTarget, seen: _Seen, reductions: Sequence[Reduction]) -> torch.Tensor:
    """Fit a layer and return its new output."""
    total = target.total
    if fitted.branch is not None:
        for reduce in reductions:
            total = reduce(total)
    wanted = total
    if target.stream is not None and seen.before is not None:
        wanted = total - target.stream.gathered(fitted.layer, seen.before, seen.output.shape)
    error = wanted - matrices.rows(fitted.layer, seen.output)
    if not float(error.norm()) <= UNCHANGED * float(total.norm()):  # NaN is not
        inputs = matrices.read_rows(fitted.layer, seen.inputs)
        _solve(fitted, *(least_squares.drawn(values.flatten(0, 1)) for values in (inputs, error)))
    output: torch.Tensor = fitted.layer.forward(seen.inputs)
    return output


@contextmanager
def _reducing(model: nn.Module, reductions: list[Reduction]) -> Iterator[None]:
    """Append to `reductions`, as `model` runs, the linear map that each token-pruning block applies to the
    stream."""
    blocks = [module for module in model.modules() if isinstance(module, TokenBlock)]

    def drop_from(x: torch.Tensor, how: Reduction) -> torch.Tensor:
        reductions.append(how)
        return how(x)

    for block in blocks:
        block.__dict__["drop_from"] = drop_from
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["drop_from"]


def _solve(fitted: Fitted, inputs: torch.Tensor, error: torch.Tensor) -> None:
    """Change the layer so that its output for `inputs` (rows, columns) moves by `error` (rows, outputs)."""
    centred = matrices.has_constant(fitted.layer, fitted.norm)
    change, constant = least_squares.fit(inputs, error, fitted.ridge, centred)
    matrices.set_weight(fitted.layer, matrices.weight(fitted.layer) + change)
    if centred:
        matrices.add_constant(fitted.layer, fitted.norm, constant)


@contextmanager
def _watched(layers: Sequence[Fitted | None], see: See) -> Iterator[None]:
    """Call `see` for each layer as it runs; a tensor that it returns replaces the output of the layer."""
    handles = []
    for index, fitted in enumerate(layers):
        if fitted is None:
            continue
        before: list[torch.Tensor] = []
        if fitted.branch is not None:
            handles.append(fitted.branch.leaves.register_forward_pre_hook(partial(_hold, before)))
        handles.append(fitted.layer.register_forward_hook(partial(_call, see, index, fitted, before)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hold(before: list[torch.Tensor], _: nn.Module, inputs: tuple[Any, ...]) -> None:
    before[:] = [inputs[0]]


def _call(
    see: See,
    index: int,
    fitted: Fitted,
    before: list[torch.Tensor],
    _: nn.Module,
    inputs: tuple[Any, ...],
    output: torch.Tensor,
) -> torch.Tensor | None:
    return see(index, fitted, _Seen(inputs[0], output, before.pop() if before else None))
