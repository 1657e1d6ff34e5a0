"""RepViT (Wang et al. 2024): convolutions in the order of a transformer, with branches that become one when deployed.

There is no attention. Training uses three branches around each depthwise convolution and two classifiers, the deployed
model one of each with the same output. The hidden channels of every MLP are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from timm.models import reparameterize_model
from timm.models.repvit import RepVit, RepVitMlp
from torch import nn

from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits, Branch

TWO_CLASSIFIERS = {"distillation": True}
"""timm builds every variant with two classifiers, but replaces them by one for other classes: weights would not fit."""


class RepViTFamily(TimmFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "repvit"
    modules = ("repvit",)
    why_no_heads = "is made of convolutions and has no heads"
    why_no_ffn = "has an MLP of another layout, so its channels cannot be removed"
    why_no_windows = "is made of convolutions and has no windows"
    why_no_tokens = "is made of convolutions and has no tokens"
    why_no_depth = "has a spatial convolution outside the residual branch of every block, so none can be dropped"

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        if knob == "quantization" and value in ("int8_qat", "int8_mixed"):
            without = "there is nothing to train for int8" if value == "int8_qat" else "there is nothing to mix"
            return f"{name} has only two linear layers, its classifiers, which ship as one: {without}"
        return super().supports(name, knob, value)

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return {}

    def recipe(self, name: str, resolution: int | None = None) -> BuildRecipe:
        return replace(super().recipe(name, resolution), classifier=TWO_CLASSIFIERS)

    def tokens(self, model: nn.Module, resolution: int) -> int:
        return 0

    def embed_dim(self, model: nn.Module) -> int:
        return int(cast(RepVit, model).num_features)

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(
            _unit(name, mlp, model.get_submodule(name.rpartition(".")[0]))
            for name, mlp in model.named_modules()
            if isinstance(mlp, RepVitMlp)
        )

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        raise PlanError(f"RepViT {self.why_no_heads}")

    def deployable(self, model: nn.Module) -> nn.Module:
        return cast(nn.Module, reparameterize_model(model.eval()))


def _unit(name: str, mlp: Any, block: nn.Module) -> BlockUnits:
    expand, project = mlp.conv1, mlp.conv2
    return BlockUnits(name, 0, 0, None, expand.c, project.c, fc2_norm=project.bn, fc2_branch=Branch(mlp, block))
