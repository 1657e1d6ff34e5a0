"""Remove the blocks, stream channels, heads and FFN channels that a resolved plan does not keep.

The only module that imports torch_pruning. Heads and the residual stream are sliced by the family, which knows its
layout. So are the FFN channels of models whose structure was found; those of the other families go through
torch_pruning's dependency graph, which also follows the norms and depthwise convolutions between the two layers. Its
`BasePruner` is not used: on half of the families it fails or silently prunes nothing, and its default arguments keep
models alive.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import timm
import torch
import torch_pruning as tp
from torch import nn

from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.errors import StageError
from vitsearch.models.backbone import Backbone, BlockUnits
from vitsearch.models.surgery import PassThrough


def apply(model: nn.Module, backbone: Backbone, resolved: ResolvedPlan, example_input: torch.Tensor) -> None:
    """Cut the unpruned `model` down to `resolved`, in place.

    `example_input` (1, channels, height, width) is used for tracing. Blocks that keep everything are not touched.
    `StageError` when the resolved plan does not fit the model or the cut went wrong.
    """
    digest = backbone.structure_digest(model)
    if resolved.structure_digest not in ("", digest):
        wrong = f"{resolved.backbone}: the structure found with timm {timm.__version__} here is not the one of the plan"
        raise StageError("prune", "mismatch", wrong)
    units = backbone.units(model)
    if len(units) != len(resolved.blocks):
        raise StageError("prune", "mismatch", f"resolved plan of {len(resolved.blocks)} blocks, model of {len(units)}")
    for index, (unit, kept) in enumerate(zip(units, resolved.blocks, strict=True)):
        _check(unit, kept)
        if _is_dropped(unit, kept):
            model.set_submodule(unit.name, PassThrough())
        elif len(kept.heads) < unit.heads:
            backbone.slice_heads(model, index, kept.heads)
    if resolved.embed:
        backbone.slice_stream(model, resolved.embed)
    units = backbone.units(model)
    neurons = {
        index: kept.ffn
        for index, (unit, kept) in enumerate(zip(units, resolved.blocks, strict=True))
        if len(kept.ffn) < unit.ffn_width
    }
    if neurons:
        backbone.slice_ffn(model, neurons, example_input)
    _verify(backbone.units(model), resolved)


def cut_by_dependencies(
    model: nn.Module, backbone: Backbone, kept: Mapping[int, Sequence[int]], images: torch.Tensor
) -> None:
    """Remove neurons with torch_pruning, for families whose FFN is what its dependency graph follows.

    Args:
        model: Is cut in place.
        backbone: Its family.
        kept: Indices of the neurons that stay, by the index of the block in `Backbone.units`.
        images: One image (1, channels, height, width), for tracing.

    Raises:
        StageError: A cut is refused.
    """
    units, graph = backbone.units(model), _dependencies(model, images)
    for index, neurons in kept.items():
        unit = units[index]
        removed = sorted(set(range(unit.ffn_width)) - set(neurons))
        convolution = isinstance(unit.fc1, nn.Conv2d)
        cut = tp.prune_conv_out_channels if convolution else tp.prune_linear_out_channels
        group = graph.get_pruning_group(unit.fc1, cut, idxs=removed)
        if not graph.check_pruning_group(group):
            raise StageError("prune", "refused", f"{unit.name}: cannot remove {len(removed)} FFN channels")
        group.prune()


def _dependencies(model: nn.Module, example: torch.Tensor) -> tp.DependencyGraph:
    """The dependency graph, traced through autograd: in evaluation mode, with gradients enabled on every parameter."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    was_training = model.training
    for parameter in frozen:
        parameter.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unwrapped parameters detected")  # tokens and positions
        graph = tp.DependencyGraph().build_dependency(model.eval(), example_inputs=example)
    for parameter in frozen:
        parameter.requires_grad_(False)
    model.train(was_training)
    return graph


def _is_dropped(unit: BlockUnits, kept: ResolvedBlock) -> bool:
    return bool(unit.heads or unit.ffn_width) and not kept.heads and not kept.ffn


def _check(unit: BlockUnits, kept: ResolvedBlock) -> None:
    if _is_dropped(unit, kept) and unit.removable:
        return
    cuts = (("heads", kept.heads, unit.heads), ("FFN channels", kept.ffn, unit.ffn_width))
    for what, indices, size in cuts:
        fits = sorted(set(indices)) == list(indices) and all(0 <= index < size for index in indices)
        if not fits or (size and not indices):
            wrong = f"{unit.name} has {size} {what}, cannot keep {list(indices)[:8]}"
            raise StageError("prune", "mismatch", wrong)


def _verify(units: tuple[BlockUnits, ...], resolved: ResolvedPlan) -> None:
    for unit, kept in zip(units, resolved.blocks, strict=True):
        expected = [len(kept.heads) * unit.head_dim, len(kept.ffn) * unit.ffn_grain]
        columns = [0 if layer is None else layer.weight.shape[1] for layer in (unit.proj, unit.fc2)]
        rows = 0 if unit.fc1 is None else unit.fc1.weight.shape[0]
        if columns != expected or unit.heads != len(kept.heads) or rows not in (columns[1], 2 * columns[1]):
            wrong = f"{unit.name}: columns of proj and fc2 are {columns}, not {expected}, and fc1 has {rows} rows"
            raise StageError("prune", "shape", wrong)
