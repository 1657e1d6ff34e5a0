"""From what a job says of a model to the model: unpruned, cut, with the weights that were fitted or trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from safetensors.torch import load_file
from torch import nn

from vitsearch import backbones
from vitsearch.compress import batch_norms, prune, prune_width, refit, sequential, tokens
from vitsearch.compress.quantization import fake_quant
from vitsearch.compress.sparsity import sparsity
from vitsearch.compress.statistics import Statistics
from vitsearch.pipeline import jobs
from vitsearch.workers.images import blank, drawn, drawn_batches, load_data, torch_device


def model_spec(source: jobs.Source, workshop: jobs.Workshop) -> backbones.ModelSpec:
    identity = load_data(workshop).identity
    return backbones.ModelSpec(
        source.backbone,
        source.weights,
        source.resolution,
        identity.classes,
        identity.channels,
        window_size=source.window_size,
    )


def base_model(source: jobs.Source, workshop: jobs.Workshop) -> nn.Module:
    """The unpruned model."""
    return backbones.find(source.backbone).build(model_spec(source, workshop)).model.eval()


def shaped(pruned: jobs.Pruned, workshop: jobs.Workshop) -> nn.Module:
    """Everything that the effect says about the graph and its zeros; the weights are those that were not cut."""
    model = _cut(pruned, workshop)
    if pruned.sparsity is not None:
        sparsity.magnitude(model, pruned.effect.weight_sparsity)
    tokens.apply(model, pruned.effect)
    return model


def compressed(pruned: jobs.Pruned, workshop: jobs.Workshop, checkpoint: str | None) -> nn.Module:
    """With the weights of ``checkpoint``; without one as rung 0 leaves it: refitted in closed form."""
    if checkpoint is None:
        return refitted(pruned, workshop)
    model = shaped(pruned, workshop)
    fake_quant.load(model, load_file(workshop.store.get(checkpoint)))
    return model


def refitted(pruned: jobs.Pruned, workshop: jobs.Workshop) -> nn.Module:
    """Rung 0: batch norms settled where the resolution is another, then cut, fitted in parallel and in sequence,
    and last the weights that become zero."""
    base, backbone, effect = base_model(pruned.source, workshop), backbones.find(pruned.source.backbone), pruned.effect
    _settle(base, pruned, workshop)
    model = copy.deepcopy(base)
    prune.apply(model, backbone, replace(effect, embed=()), blank(pruned.source.resolution, workshop))
    refit.refit(model, base, backbone, effect, Statistics.load(workshop.store.get(pruned.statistics_sha256)))
    fit = _sequential_fit(base, model, pruned, workshop)
    if effect.embed:
        backbone.slice_stream(model, effect.embed)
    if not sequential.follows(effect) or pruned.token_predictors is not None:
        fit(model)
    tokens.apply(model, effect)
    if pruned.token_predictors is not None:
        seen = drawn_batches(workshop, pruned.token_predictors, pruned.source.resolution)
        tokens.fit_predictors(model.cpu(), seen)
    if sequential.follows(effect):
        fit(model)
    if pruned.sparsity is not None:
        _thin_out(model, pruned.sparsity, pruned, workshop)
    return model.cpu()


def _cut(pruned: jobs.Pruned, workshop: jobs.Workshop) -> nn.Module:
    model = base_model(pruned.source, workshop)
    image = blank(pruned.source.resolution, workshop)
    prune.apply(model, backbones.find(pruned.source.backbone), pruned.effect, image)
    return model


def _sequential_fit(
    base: nn.Module, wide: nn.Module, pruned: jobs.Pruned, workshop: jobs.Workshop
) -> Callable[[nn.Module], None]:
    """Fits what was cut of ``base`` to what that gives, in place; where nothing is cut it does nothing. ``wide``
    is cut but for the channels of the stream."""
    if pruned.refit is None:
        return lambda model: None
    backbone = backbones.find(pruned.source.backbone)
    inputs = drawn(workshop, pruned.refit, pruned.source.resolution, torch_device())
    embed = pruned.effect.embed
    wanted = sequential.targets(base.to(inputs.device), backbone, inputs, embed)
    read = prune_width.readings(base, wide, backbone, inputs) if embed else {}

    def fit(model: nn.Module) -> None:
        readers = partial(prune_width.fitting, model, backbone, embed, read)
        sequential.fit(model.to(inputs.device), backbone, wanted, inputs, readers)

    return fit


def _thin_out(model: nn.Module, seen: jobs.Calibration, pruned: jobs.Pruned, workshop: jobs.Workshop) -> None:
    """The first images of ``seen`` decide which weights go; behind them batch norms are settled on all of it."""
    resolution = pruned.source.resolution
    few = drawn(workshop, replace(seen, images=sparsity.IMAGES), resolution, torch_device())
    sparsity.fit(model.to(few.device), pruned.effect.weight_sparsity, few)
    batch_norms.settle(model.cpu(), drawn_batches(workshop, seen, resolution))


def _settle(model: nn.Module, pruned: jobs.Pruned, workshop: jobs.Workshop) -> None:
    if pruned.batch_norms is not None:
        batch_norms.settle(model, drawn_batches(workshop, pruned.batch_norms, pruned.source.resolution))
