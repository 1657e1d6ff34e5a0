"""EfficientViT of MSRA (Liu et al. 2023): cascaded group attention between two MLPs of convolutions.

Heads stay, because each reads the output of the one before it. Windows that divide the maps can be requested; the
default windows pad the maps of most sizes.
"""

from __future__ import annotations

from typing import Any, cast

from timm.models.efficientvit_msra import EfficientVitMsra

from vitsearch.backbones.found_family import FoundFamily

PATCH = 16


class EfficientViTMSRAFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "efficientvit_msra"
    modules = ("efficientvit_msra",)
    why_no_heads = "has cascaded heads, each of which reads the output of the one before, so none can be removed alone"
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        """Other sizes would be padded to whole windows, which cost as much as full ones."""
        if pixels > 0 and pixels % PATCH == 0:
            return None
        below = pixels // PATCH * PATCH
        near = " and ".join(str(size) for size in (below, below + PATCH) if size > 0)
        return f"{pixels} pixels are not a multiple of {PATCH}, the stride of the stem of {name} (nearest: {near})"

    def maps(self, name: str, pixels: int) -> tuple[int, ...]:
        first = pixels // PATCH
        second = (first + 1) // 2
        return first, second, (second + 1) // 2

    def own_windows(self, name: str, pixels: int) -> tuple[int, ...]:
        """The same at every size, so that the first map may be padded to whole windows."""
        stages: Any = cast(EfficientVitMsra, self.unbuilt(name)).stages
        sides = [int(stage.blocks[-1].mixer.m.window_resolution) for stage in stages]
        return tuple(map(min, sides, self.maps(name, pixels)))

    def window_arguments(self, name: str, pixels: int, window: int) -> dict[str, Any]:
        return {"window_size": (window,) * len(self.maps(name, pixels))}
