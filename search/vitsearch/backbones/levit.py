"""LeViT of timm (Graham et al. 2021), with linear layers (`levit_*`) or 1x1 convolutions (`levit_conv_*`).

Between two stages an attention with fewer queries than keys shrinks the map; it and its MLP are cut like blocks.
"""

from __future__ import annotations

from typing import Any, cast

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.backbones.valid_sizes import are_multiples, nearest_multiples
from vitsearch.core.image_size import ImageSize


class LevitFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "levit"
    modules = ("levit",)
    why_no_windows = "attends over the whole image and has no windows"
    why_no_tokens = "shrinks its grid of tokens between the stages and needs all of it, so none can be pruned"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        stride = int(cast(Any, self.unbuilt(name)).stem.stride)
        if are_multiples(size, stride):
            return None
        near = nearest_multiples(size, stride)
        return f"{size} pixels are not a multiple of the stride {stride} of the stem of {name} (nearest: {near})"
