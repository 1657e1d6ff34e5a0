"""What models of a space cost before anything is searched: parameters and MACs, and the time of a training step here.

Models are built with random weights and cut as a search would cut them; nothing is downloaded. Which heads and channels
stay is not known without scores, so all count as equally important: under a ranking over all blocks
(`pruning_scope: global`) the counts of a search differ a little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs, prune, tokens
from vitsearch.core.networks import Networks
from vitsearch.core.plan import Plan
from vitsearch.core.resolve import Scores, resolve
from vitsearch.export import deploy
from vitsearch.models.onnx_model import OnnxModel
from vitsearch.stages.parts.images import torch_device

TIMED_BATCH = 16
"""Most images of a timed step: it takes as long for each image as a step of the recipe's batch, and less memory."""


@dataclass(frozen=True)
class Counts:
    """Millions of parameters and of MACs of a plan, in the form that ships. `linear_m` are the parameters of linear
    layers, which is all that many files have in int8."""

    params_m: float
    macs_m: float
    linear_m: float


@dataclass(frozen=True)
class SpaceModels:
    """What the models of a space have in common: their classes, the channels of images, whether they give a map, and
    the networks of the user that may be their backbones."""

    classes: int
    channels: int
    gives_map: bool = False
    networks: Networks = ()

    def spec(self, plan: Plan, window_size: int | None = None) -> ModelSpec:
        return ModelSpec(
            plan.backbone,
            "none",
            plan.resolution,
            self.classes,
            self.channels,
            window_size=window_size,
            gives_map=self.gives_map,
        )


def count(plan: Plan, models: SpaceModels) -> Counts:
    """The counts of a plan of these models."""
    family = backbones.find(plan.backbone, models.networks)
    spec, channels = models.spec(plan, plan.window_size), models.channels
    model = family.build(spec).model.eval()
    structure = family.block_structure(model, spec)
    resolved = resolve(plan, structure, Scores.equal(structure))
    image = torch.zeros(1, channels, *plan.resolution.sides)
    prune.apply(model, family, resolved, image)
    tokens.apply(model, resolved)
    shipped = deploy.deployed(model, family, tuple(image.shape))
    macs_m, params_m = macs.count(shipped, image)
    if isinstance(shipped, OnnxModel):
        return Counts(params_m, macs_m, int(shipped.counts[2]) / 1e6)
    linear = sum(layer.weight.numel() for layer in shipped.modules() if isinstance(layer, nn.Linear))
    return Counts(params_m, macs_m, linear / 1e6)


def training_seconds_per_image(plan: Plan, models: SpaceModels, threads: int) -> float:
    """The time of a training step for each image, of the unpruned model of `plan`: the second of two steps, on the
    GPU of this machine or on `threads` cores. On cores it is their CPU time, so that other programs do not count."""
    spec = models.spec(plan)
    device, before = torch_device(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = backbones.find(plan.backbone, models.networks).build(spec).model.train().to(device)
        batch = min(TIMED_BATCH, plan.recipe.batch_size)
        images = torch.randn(batch, models.channels, *plan.resolution.sides, device=device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        clock = time.perf_counter if device == "cuda" else time.process_time
        for _ in range(2):
            begin = clock()
            optimizer.zero_grad()
            model(images).logsumexp(1).mean().backward()  # of logits, or of maps of them
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = clock() - begin
        return seconds / batch / (1 if device == "cuda" else threads)
    finally:
        torch.set_num_threads(before)
