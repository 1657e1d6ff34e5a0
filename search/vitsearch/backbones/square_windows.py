"""What families whose windows are square share, whatever the shape of the images: EfficientViT of MSRA, and TinyViT."""

from __future__ import annotations

from dataclasses import replace

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.backbones.tables import resample_square_tables
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.backbones.window_sizes import square
from vitsearch.core.image_size import ImageSize, Sides


class SquareWindowsFamily(FoundFamily):
    """A `FoundFamily` whose windows have as many rows as columns on every map, and whose biases are of windows."""

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        tables = resample_square_tables
        return replace(super().recipe(name, resolution), resample=tables, resample_own=tables)

    @staticmethod
    def window_on(side: int, on_map: Sides) -> Sides:
        return square(side, on_map)
