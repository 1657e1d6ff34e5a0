"""TinyViT (Wu et al. 2022): a stage of inverted residuals, then attention in unshifted windows, with LeViT's biases.

By default windows keep their share of the map at every resolution, so that none is padded; others that divide the maps
can be requested. Windows are square: of images that are no squares they keep their share of the shorter side, and the
longer one is padded where they do not divide it. Mergings are not cut.
"""

from __future__ import annotations

from typing import Any, cast

from timm.models.tiny_vit import TinyVit

from vitsearch.backbones.square_windows import SquareWindowsFamily
from vitsearch.backbones.valid_sizes import are_multiples, nearest_multiples
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW, square
from vitsearch.core.image_size import ImageSize, Sides

STRIDE = 32


class TinyViTFamily(SquareWindowsFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "tiny_vit"
    modules = ("tiny_vit",)
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        smallest = SMALLEST_WINDOW * STRIDE
        if are_multiples(size, STRIDE, smallest):
            return None
        return (
            f"windows of whole tokens do not divide the maps of {name} at {size} pixels: allowed are "
            f"multiples of {STRIDE} from {smallest} on (the nearest: {nearest_multiples(size, STRIDE, smallest)})"
        )

    def resolution_arguments(self, name: str, size: ImageSize) -> dict[str, Any]:
        return self._arguments(self.own_windows(name, size))

    def maps(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        return tuple((size.height // stride, size.width // stride) for stride in (8, 16, 32))

    def own_windows(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        native, least = self.native_resolution(name).height, min(size.sides)
        stages: Any = cast(TinyVit, self.unbuilt(name)).stages
        sides = (int(stage.blocks[0].window_size) * least // native for stage in list(stages)[1:])
        return tuple((side, side) for side in sides)

    def window_arguments(self, name: str, size: ImageSize, window: int) -> dict[str, Any]:
        return self._arguments(tuple(square(window, each) for each in self.maps(name, size)))

    @staticmethod
    def _arguments(windows: tuple[Sides, ...]) -> dict[str, Any]:
        """timm expects a window for the first stage too, which has no attention."""
        sides = [side for side, _ in windows]
        return {"window_sizes": (sides[0], *sides)}
