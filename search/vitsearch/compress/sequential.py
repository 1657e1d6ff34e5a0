"""Fit a cut model in closed form, one layer after the other, on what the layers before it now give.

Base and cut model see the same images. A consumer (``proj`` or ``fc2``) whose output y is added to
the residual stream z is fitted so that the stream behind it is the base's again:

    target       T = y_base + z_base - z
    weights      W' = W + (T - y)^T A / n (A^T A / n + R I)^-1
    constant     b' = mean(T) - W' mean(A)

with A what the consumer reads in the cut model, centred where it has a constant, R = ridge x mean of
the diagonal, and W as the parallel fit (:mod:`vitsearch.compress.refit`) left it. The target also
repairs what the layers before left wrong, which the base's own output alone would not. Last, the
classifier is fitted to the base's logits. No labels, no gradient step. Where the cut model drops or
fuses tokens, what is wanted of a token that stays is what the base gave for it.

The order of work is that of OBC and SparseGPT (Frantar et al. 2022, 2023): each layer on the
activations of the model as it is pruned by then.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

RIDGE, CLASSIFIER_RIDGE = 1e-2, 1e-1
UNCHANGED = 1e-6
"""Of the norm of the stream: an error below it is that of float32, nothing in front of the layer was cut."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer to fit; ``norm`` is a batch norm that takes its constant, ``branch`` where its output goes."""

    layer: Layer
    norm: nn.Module | None = None
    branch: Branch | None = None
    ridge: float = RIDGE


@dataclass(frozen=True, eq=False)
class _Seen:
    """What went through a layer; ``before`` is the stream in front of its branch."""

    inputs: torch.Tensor
    output: torch.Tensor
    before: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Target:
    """``total`` (images, positions, outputs): what the base's layer gave and, in its scale and layout,
    the ``stream`` in front of it."""

    stream: Stream | None
    total: torch.Tensor


Targets = Mapping[int, Target]
"""By place of the layer; float32, together as large as the inputs of all blocks for all images."""
Reduction = Callable[[torch.Tensor], torch.Tensor]
"""(images, tokens, outputs) to fewer tokens."""
Beside = Callable[[Sequence[Reduction]], AbstractContextManager[None]]
See = Callable[[int, Fitted, _Seen], "torch.Tensor | None"]


def targets(base: nn.Module, backbone: Backbone, images: torch.Tensor, embed: Sequence[int] = ()) -> Targets:
    """What an unpruned model gives for ``images`` (n, channels, height, width), normalised: to the stream, in
    the channels ``embed`` alone, where any are named."""
    layers = _layers(base, backbone)
    branches = [(it.layer, it.branch) if it is not None and it.branch is not None else None for it in layers]
    known = streams(base, branches, images[:1])
    found: dict[int, Target] = {}

    def keep(place: int, fitted: Fitted, seen: _Seen) -> None:
        stream, total = known[place], matrices.rows(fitted.layer, seen.output)
        if stream is not None and seen.before is not None:
            total = total + stream.pulled(fitted.layer, seen.before, seen.output.shape)
        if embed and fitted.branch is not None:
            stream, total = stream and stream.narrowed(embed), total[..., list(embed)]
        found[place] = Target(stream, total)

    with torch.no_grad(), _watched(layers, keep):
        base.eval()(images)
    return found


def fit(
    pruned: nn.Module, backbone: Backbone, wanted: Targets, images: torch.Tensor, auxiliary_loss: Beside | None = None
) -> None:
    """Fit every consumer of ``pruned`` behind the first cut, and its classifier, in place.

    ``wanted`` is what its base gave for the same ``images``, which are shown all at once. Layers in
    front of the first cut stay as they are. What is fitted ``beside`` them, in the same pass, is told how many
    tokens the blocks leave. :class:`~vitsearch.errors.StageError` when a fit is not finite.
    """

    reductions: list[Reduction] = []

    def fit_layer(place: int, fitted: Fitted, seen: _Seen) -> torch.Tensor:
        return _fit(fitted, wanted[place], seen, reductions)

    others = auxiliary_loss(reductions) if auxiliary_loss else nullcontext()
    with torch.no_grad(), _reducing(pruned, reductions), _watched(_layers(pruned, backbone), fit_layer), others:
        pruned.eval()(images)


def follows(resolved: ResolvedPlan) -> bool:
    """Whether it helps to fit a model to what the base gave for the tokens that it has. A merged token is no
    token of the base, and the mean of several is a poor target (KL .071 for .068 without): there a model is
    fitted before it loses tokens."""
    return resolved.token_pruning_method in ("topk", "evit", "dynamicvit")


def _layers(model: nn.Module, backbone: Backbone) -> list[Fitted | None]:
    """Two for each block, then the classifiers: the same places in a base and in what was cut of it."""
    blocks = [layer for unit in backbone.units(model) for layer in _of_block(unit)]
    return [*blocks, *(Fitted(layer, ridge=CLASSIFIER_RIDGE) for layer in classifiers(model))]


def _of_block(unit: BlockUnits) -> tuple[Fitted | None, Fitted | None]:
    heads = None if unit.proj is None else Fitted(unit.proj, unit.proj_norm, unit.proj_branch)
    ffn = None if unit.fc2 is None else Fitted(unit.fc2, unit.fc2_norm, unit.fc2_branch)
    return heads, ffn


def classifiers(model: Any) -> list[nn.Linear]:
    """One, or the two of a distilled model; of a norm and a layer, the layer."""
    found = model.get_classifier()
    heads = found if isinstance(found, tuple | list) else (found,)
    layers = [[module for module in head.modules() if isinstance(module, nn.Linear)] for head in heads]
    return [inside[-1] for inside in layers if inside]


def _fit(fitted: Fitted, target: Target, seen: _Seen, reductions: Sequence[Reduction]) -> torch.Tensor:
    """What the layer gives once it is fitted."""
    total = target.total
    if fitted.branch is not None:
        for reduce in reductions:
            total = reduce(total)
    wanted = total
    if target.stream is not None and seen.before is not None:
        wanted = total - target.stream.pulled(fitted.layer, seen.before, seen.output.shape)
    error = wanted - matrices.rows(fitted.layer, seen.output)
    if not float(error.norm()) <= UNCHANGED * float(total.norm()):  # NaN is not
        inputs = matrices.rows(fitted.layer, seen.inputs)
        _solve(fitted, *(least_squares.drawn(values.flatten(0, 1)) for values in (inputs, error)))
    found: torch.Tensor = fitted.layer.forward(seen.inputs)
    return found


@contextmanager
def _reducing(model: nn.Module, reductions: list[Reduction]) -> Iterator[None]:
    """Notes, as ``model`` runs, what its blocks that leave fewer tokens do to the stream: a linear map."""
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
    """Take ``error`` (rows, outputs) off what the layer gives for ``inputs`` (rows, columns), as far as it can."""
    centred = matrices.has_constant(fitted.layer, fitted.norm)
    change, constant = least_squares.fit(inputs, error, fitted.ridge, centred)
    matrices.set_weight(fitted.layer, matrices.weight(fitted.layer) + change)
    if centred:
        matrices.add_constant(fitted.layer, fitted.norm, constant)


@contextmanager
def _watched(layers: Sequence[Fitted | None], see: See) -> Iterator[None]:
    """``see`` is asked about each layer as it runs; what it gives, if anything, is the layer's output."""
    handles = []
    for place, fitted in enumerate(layers):
        if fitted is None:
            continue
        before: list[torch.Tensor] = []
        if fitted.branch is not None:
            handles.append(fitted.branch.leaves.register_forward_pre_hook(partial(_hold, before)))
        handles.append(fitted.layer.register_forward_hook(partial(_ask, see, place, fitted, before)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hold(before: list[torch.Tensor], _: nn.Module, inputs: tuple[Any, ...]) -> None:
    before[:] = [inputs[0]]


def _ask(
    see: See,
    place: int,
    fitted: Fitted,
    before: list[torch.Tensor],
    _: nn.Module,
    inputs: tuple[Any, ...],
    output: torch.Tensor,
) -> torch.Tensor | None:
    return see(place, fitted, _Seen(inputs[0], output, before.pop() if before else None))
