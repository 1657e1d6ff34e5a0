"""Swin transformers of timm (Liu et al. 2021) and Swin-S3 (Chen et al. 2021): attention in shifted windows.

By default windows grow and shrink with the image, as in timm's `set_input_size`: each keeps its share of its map, so
that no map is padded, which would cost more than whole windows do. Images that are no squares have windows of their
shape. Any other window that divides the maps can be requested, of equal sides. Patch merging is not cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from timm.layers import PatchEmbed, resize_rel_pos_bias_table
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.backbones.valid_sizes import are_multiples, img_size, nearest_multiples
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.backbones.weights_file import State
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW
from vitsearch.core.image_size import ImageSize, Sides

TABLE = ".relative_position_bias_table"
"""End of the names of tables in a state, whose second part is the stage."""


class SwinFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "swin"
    modules = ("swin_transformer",)
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        step = self._step(name)
        smallest = SMALLEST_WINDOW * self._native_side(name) // min(self._windows(name))
        smallest = math.ceil(smallest / step) * step
        if are_multiples(size, step, smallest):
            return None
        return (
            f"windows of whole patches do not divide the maps of {name} at {size} pixels: allowed are "
            f"multiples of {step} from {smallest} on (the nearest: {nearest_multiples(size, step, smallest)})"
        )

    def resolution_arguments(self, name: str, size: ImageSize) -> dict[str, Any]:
        return {"img_size": img_size(size), "window_size": self.own_windows(name, size)}

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        """timm itself resamples the tables, about their centre: most of a table is of short distances. It takes the
        windows of weights for square, as those from elsewhere are."""

        def resample(state: State, model: nn.Module, old: ImageSize, new: ImageSize) -> State:
            return _resample_windows(state, model, self.own_windows(name, old))

        return replace(super().recipe(name, resolution), resample=None, resample_own=resample)

    def maps(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        model = cast(SwinTransformer, self.unbuilt(name))
        patch = int(cast(PatchEmbed, model.patch_embed).patch_size[0])
        height, width = (side // patch for side in size.sides)
        return tuple((height // 2**stage, width // 2**stage) for stage in range(len(model.layers)))

    def own_windows(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        native = self._native_side(name)
        return tuple((side * size.height // native, side * size.width // native) for side in self._windows(name))

    def window_arguments(self, name: str, size: ImageSize, window: int) -> dict[str, Any]:
        return {"window_size": window}

    def _native_side(self, name: str) -> int:
        return self.native_resolution(name).height  # all of timm's have square images

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


def _resample_windows(state: State, model: nn.Module, windows: Sequence[Sides]) -> State:
    """`state` with the tables of its `windows`, one for each stage, interpolated to the windows of `model`."""
    resampled = dict(state)
    for name in state:
        place = name.removesuffix(TABLE)
        if place != name:
            attention: Any = model.get_submodule(place)
            shape, stage = tuple(attention.relative_position_bias_table.shape), int(name.split(".")[1])
            resampled[name] = resize_rel_pos_bias_table(state[name], attention.window_size, shape, windows[stage])
    return resampled
