"""EfficientViT of MSRA (Liu et al. 2023): cascaded group attention between two MLPs of convolutions.

Heads stay, because each reads the output of the one before it. Windows that divide the maps can be requested; the
default windows pad the maps of most sizes.
"""

from __future__ import annotations

from typing import Any, cast

from timm.models.efficientvit_msra import EfficientVitMsra

from vitsearch.backbones.square_windows import SquareWindowsFamily
from vitsearch.backbones.valid_sizes import are_multiples, nearest_multiples
from vitsearch.backbones.window_sizes import square
from vitsearch.core.image_size import ImageSize, Sides

PATCH = 16


class EfficientViTMSRAFamily(SquareWindowsFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "efficientvit_msra"
    modules = ("efficientvit_msra",)
    why_no_heads = "has cascaded heads, each of which reads the output of the one before, so none can be removed alone"
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        """Other sizes would be padded to whole windows, which cost as much as full ones."""
        if are_multiples(size, PATCH):
            return None
        near = nearest_multiples(size, PATCH)
        return f"{size} pixels are not a multiple of {PATCH}, the stride of the stem of {name} (nearest: {near})"

    def maps(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        return tuple(zip(*(_maps(side) for side in size.sides), strict=True))

    def own_windows(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        """The same at every size, so that the first map may be padded to whole windows."""
        stages: Any = cast(EfficientVitMsra, self.unbuilt(name)).stages
        sides = [int(stage.blocks[-1].mixer.m.window_resolution) for stage in stages]
        return tuple(map(square, sides, self.maps(name, size)))

    def window_arguments(self, name: str, size: ImageSize, window: int) -> dict[str, Any]:
        return {"window_size": (window,) * len(self.maps(name, size))}


def _maps(pixels: int) -> tuple[int, int, int]:
    """The sides of the maps of an image with a side of so many pixels."""
    first = pixels // PATCH
    second = (first + 1) // 2
    return first, second, (second + 1) // 2
