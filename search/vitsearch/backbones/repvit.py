"""RepViT (Wang et al. 2024): convolutions in the order of a transformer, with branches that become one when deployed.

There is no attention. Training uses three branches around each depthwise convolution and two classifiers, the deployed
model one of each with the same output.
"""

from __future__ import annotations

from dataclasses import replace

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.core.image_size import ImageSize

TWO_CLASSIFIERS = {"distillation": True}
"""timm builds every variant with two classifiers, but replaces them by one for other classes: weights would not fit."""


class RepViTFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "repvit"
    modules = ("repvit",)
    why_no_heads = "is made of convolutions and has no heads"
    why_no_windows = "is made of convolutions and has no windows"
    why_no_tokens = "is made of convolutions and has no tokens"

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        return replace(super().recipe(name, resolution), classifier=TWO_CLASSIFIERS)
