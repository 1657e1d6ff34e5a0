"""Cuts a model to an effect, in place and exactly. The only door to torch-pruning.

Heads are sliced by the family, which knows its layout. FFN channels go through torch-pruning's
dependency graph, which follows them through whatever lies between the two layers. Its own pruners are
not used: on half of the families they fail, or silently prune nothing.
"""

from __future__ import annotations

import warnings

import torch
import torch_pruning as tp
from torch import nn

from vitsearch.backbones import Backbone
from vitsearch.effect import Effect
from vitsearch.errors import PlanError, StageError


def apply(model: nn.Module, backbone: Backbone, effect: Effect, example: torch.Tensor) -> None:
    """Keep what ``effect`` keeps. ``example`` (1, C, H, W) is traced once when an FFN is cut."""
    units = backbone.units(model)
    if len(units) != len(effect.blocks):
        raise PlanError(f"the effect has {len(effect.blocks)} blocks, {effect.backbone} has {len(units)}")
    _cut_ffn(model, backbone, effect, example)
    for index, (unit, block) in enumerate(zip(units, effect.blocks, strict=True)):
        if len(block.heads) < unit.heads:
            backbone.slice_heads(model, index, block.heads)
    _check(model, backbone, effect)


def _cut_ffn(model: nn.Module, backbone: Backbone, effect: Effect, example: torch.Tensor) -> None:
    todo = [
        (unit.fc1, sorted(set(range(unit.fc1.out_features)) - set(block.ffn)))
        for unit, block in zip(backbone.units(model), effect.blocks, strict=True)
    ]
    if not any(dropped for _, dropped in todo):
        return
    with warnings.catch_warnings():
        # Class token and position table are no layers; their width is never cut here.
        warnings.filterwarnings("ignore", message="Unwrapped parameters detected")
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
    for layer, dropped in todo:
        if not dropped:
            continue
        group = graph.get_pruning_group(layer, tp.prune_linear_out_channels, idxs=dropped)
        if not graph.check_pruning_group(group):
            raise StageError("screen", "prune", f"torch-pruning refuses to drop {len(dropped)} channels of {layer}")
        group.prune()


def _check(model: nn.Module, backbone: Backbone, effect: Effect) -> None:
    """Nothing may be a silent no-op."""
    for unit, block in zip(backbone.units(model), effect.blocks, strict=True):
        found = (unit.heads, unit.proj.in_features, unit.fc1.out_features, unit.fc2.in_features)
        wanted = (len(block.heads), len(block.heads) * unit.head_dim, len(block.ffn), len(block.ffn))
        if found != wanted:
            raise StageError("screen", "prune", f"{unit.name}: heads, proj, fc1, fc2 are {found}, wanted {wanted}")
