"""Swin transformers of timm (Liu et al. 2021) and Swin-S3 (Chen et al. 2021): attention in shifted windows.

By default windows grow and shrink with the image, as in timm's `set_input_size`: each keeps its share of its map, so
that no map is padded, which would cost more than whole windows do. Any other window that divides the maps can be
requested. Patch merging is not cut.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

from timm.layers import PatchEmbed
from timm.models.swin_transformer import SwinTransformer

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW


class SwinFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "swin"
    modules = ("swin_transformer",)
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        step = self._step(name)
        smallest = SMALLEST_WINDOW * self.native_resolution(name) // min(self._windows(name))
        smallest = math.ceil(smallest / step) * step
        if pixels >= smallest and pixels % step == 0:
            return None
        below = pixels // step * step
        near = " and ".join(str(size) for size in (below, below + step) if size >= smallest) or str(smallest)
        return (
            f"windows of whole patches do not divide the maps of {name} at {pixels} pixels: allowed are "
            f"multiples of {step} from {smallest} on (the nearest: {near})"
        )

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return {"img_size": pixels, "window_size": tuple((side, side) for side in self.own_windows(name, pixels))}

    def recipe(self, name: str, resolution: int | None = None) -> BuildRecipe:
        """timm itself resamples the tables, about their centre: most of a table is of short distances."""
        return replace(super().recipe(name, resolution), resample=None)

    def maps(self, name: str, pixels: int) -> tuple[int, ...]:
        model = cast(SwinTransformer, self.unbuilt(name))
        first = pixels // int(cast(PatchEmbed, model.patch_embed).patch_size[0])
        return tuple(first // 2**stage for stage in range(len(model.layers)))

    def own_windows(self, name: str, pixels: int) -> tuple[int, ...]:
        native = self.native_resolution(name)
        return tuple(side * pixels // native for side in self._windows(name))

    def window_arguments(self, name: str, pixels: int, window: int) -> dict[str, Any]:
        return {"window_size": window}

    def _step(self, name: str) -> int:
        """Valid sizes are multiples of this number of pixels: windows are whole, and maps can be merged."""
        model = cast(SwinTransformer, self.unbuilt(name))
        embed: Any = model.patch_embed
        shares = math.gcd(embed.grid_size[0], *self._windows(name))
        return int(embed.patch_size[0]) * math.lcm(embed.grid_size[0] // shares, 2 ** (len(model.layers) - 1))

    def _windows(self, name: str) -> tuple[int, ...]:
        """The side of the windows of each stage at the native size, in tokens."""
        stages: Any = cast(SwinTransformer, self.unbuilt(name)).layers
        return tuple(int(stage.blocks[0].window_size[0]) for stage in stages)
