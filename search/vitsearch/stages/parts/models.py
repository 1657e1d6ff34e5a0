"""Build the model that a job describes: unpruned, cut, refitted, or with trained weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import torch
from safetensors.torch import load_file
from torch import nn

from vitsearch import backbones
from vitsearch.compress import batch_norms, prune, prune_width, refit, sequential, sparsity, tokens
from vitsearch.compress.quantization import fake_quant
from vitsearch.compress.statistics import Statistics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Networks
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.job import STORED, CompressionSpec, Source, Workspace
from vitsearch.stages.parts.images import blank, drawn, drawn_batches, load_data, torch_device


def model_spec(source: Source, workspace: Workspace) -> backbones.ModelSpec:
    images = load_data(workspace)
    identity, task = images.identity, workspace.task.find()
    outputs = task.outputs(identity.classes)
    if workspace.reference is not None:
        reference = workspace.reference.backbone
        outputs = (
            0
            if source.backbone == reference
            else _reference_width(reference, workspace.networks, identity.channels, source.resolution)
        )
    weights = source.weights
    if weights.startswith(STORED):
        weights = f"file:{workspace.store.get(weights.removeprefix(STORED))}"
    return backbones.ModelSpec(
        source.backbone,
        weights,
        source.resolution,
        outputs,
        identity.channels,
        window_size=source.window_size,
        trained_at=source.trained_at,
        class_names=tuple(images.class_names),
        gives_map=task.gives_map,
    )


@lru_cache(maxsize=4)
def _reference_width(backbone: str, networks: Networks, channels: int, resolution: ImageSize) -> int:
    """The number of outputs of the reference of a study."""
    spec = backbones.ModelSpec(backbone, "none", resolution, 0, channels)
    model = backbones.find(backbone, networks).build(spec).model
    with torch.inference_mode():
        return int(model(torch.zeros(1, channels, *resolution.sides)).shape[1])


def family_of(source: Source, workspace: Workspace) -> backbones.Backbone:
    """The family of the backbone of `source`."""
    return backbones.find(source.backbone, workspace.networks)


def base_model(source: Source, workspace: Workspace) -> nn.Module:
    """The unpruned model of `source`, in evaluation mode."""
    return family_of(source, workspace).build(model_spec(source, workspace)).model.eval()


def shaped(spec: CompressionSpec, workspace: Workspace) -> nn.Module:
    """The graph of `spec` with its zeros, for measuring costs: the weights are those that were left, not refitted."""
    model = _cut(spec, workspace)
    if spec.calibrations.sparsity is not None:
        sparsity.magnitude(model, spec.resolved.weight_sparsity)
    tokens.apply(model, spec.resolved)
    return model


def compressed(spec: CompressionSpec, workspace: Workspace, checkpoint: str | None) -> nn.Module:
    """The compressed model with the weights of `checkpoint`; without one, as rung 0 leaves it (`refitted`)."""
    if checkpoint is None:
        return refitted(spec, workspace)
    model = shaped(spec, workspace)
    fake_quant.load(model, load_file(workspace.store.get(checkpoint)))
    return model


def refitted(spec: CompressionSpec, workspace: Workspace) -> nn.Module:
    """The compressed model of rung 0, without a gradient step.

    In order: recalibrate the batch norms of the base where the resolution changed, cut, refit in parallel and in
    sequence, reduce tokens, and last zero the weights of a sparse plan.
    """
    base, backbone, resolved = base_model(spec.source, workspace), family_of(spec.source, workspace), spec.resolved
    _recalibrate(base, spec, workspace)
    model = copy.deepcopy(base)
    prune.apply(model, backbone, replace(resolved, embed=()), blank(spec.source.resolution, workspace))
    refit.refit(model, base, backbone, resolved, Statistics.load(workspace.store.get(spec.statistics_sha256)))
    fit = _sequential_fit(base, model, spec, workspace)
    if resolved.embed:
        backbone.slice_stream(model, resolved.embed)
    if not sequential.follows(resolved) or spec.calibrations.token_predictors is not None:
        fit(model)
    tokens.apply(model, resolved)
    if spec.calibrations.token_predictors is not None:
        seen = drawn_batches(workspace, spec.calibrations.token_predictors, spec.source.view)
        tokens.fit_predictors(model.cpu(), seen)
    if sequential.follows(resolved):
        fit(model)
    if spec.calibrations.sparsity is not None:
        _sparsify(model, spec.calibrations.sparsity, spec, workspace)
    return model.cpu()


def _cut(spec: CompressionSpec, workspace: Workspace) -> nn.Module:
    model = base_model(spec.source, workspace)
    image = blank(spec.source.resolution, workspace)
    prune.apply(model, family_of(spec.source, workspace), spec.resolved, image)
    return model


def _sequential_fit(
    base: nn.Module, wide: nn.Module, spec: CompressionSpec, workspace: Workspace
) -> Callable[[nn.Module], None]:
    """A function that fits a cut model, in place, to the outputs of `base`; it does nothing for an uncut model.

    `wide` is the cut model that still has all channels of the residual stream.
    """
    if spec.calibrations.refit is None:
        return lambda model: None
    backbone = family_of(spec.source, workspace)
    inputs = drawn(workspace, spec.calibrations.refit, spec.source.view, torch_device())
    embed = spec.resolved.embed
    wanted = sequential.targets(base.to(inputs.device), backbone, inputs, embed)
    read = prune_width.readings(base, wide, backbone, inputs) if embed else {}

    def fit(model: nn.Module) -> None:
        readers = partial(prune_width.fitting, model, backbone, embed, read)
        sequential.fit(model.to(inputs.device), backbone, wanted, inputs, readers)

    return fit


def _sparsify(model: nn.Module, seen: Calibration, spec: CompressionSpec, workspace: Workspace) -> None:
    """Choose the zeros on the first images of `seen`, then recalibrate the batch norms on all of them."""
    few = drawn(workspace, replace(seen, images=sparsity.IMAGES), spec.source.view, torch_device())
    sparsity.fit(model.to(few.device), spec.resolved.weight_sparsity, few)
    batch_norms.recalibrate(model.cpu(), drawn_batches(workspace, seen, spec.source.view))


def _recalibrate(model: nn.Module, spec: CompressionSpec, workspace: Workspace) -> None:
    if spec.calibrations.batch_norms is not None:
        batch_norms.recalibrate(model, drawn_batches(workspace, spec.calibrations.batch_norms, spec.source.view))
