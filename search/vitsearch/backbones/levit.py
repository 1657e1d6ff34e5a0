"""LeViT of timm (Graham et al. 2021), with linear layers (`levit_*`) or 1x1 convolutions (`levit_conv_*`).

Between two stages an attention with fewer queries than keys shrinks the map; it and its MLP are cut like blocks.
"""

from __future__ import annotations

from typing import Any, cast

from vitsearch.backbones.found_family import FoundFamily


class LevitFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "levit"
    modules = ("levit",)
    why_no_windows = "attends over the whole image and has no windows"
    why_no_tokens = "shrinks its grid of tokens between the stages and needs all of it, so none can be pruned"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        stride = int(cast(Any, self.unbuilt(name)).stem.stride)
        if pixels > 0 and pixels % stride == 0:
            return None
        below = pixels // stride * stride
        near = " and ".join(str(size) for size in (below, below + stride) if size > 0)
        return f"{pixels} pixels are not a multiple of the stride {stride} of the stem of {name} (nearest: {near})"
