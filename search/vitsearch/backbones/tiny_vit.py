"""TinyViT (Wu et al. 2022): a stage of inverted residuals, then attention in unshifted windows, with LeViT's biases.

By default windows keep their share of the map at every resolution, so that none is padded; others that divide the maps
can be requested. Mergings are not cut.
"""

from __future__ import annotations

from typing import Any, cast

from timm.models.tiny_vit import TinyVit

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW, clipped

STRIDE = 32


class TinyViTFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "tiny_vit"
    modules = ("tiny_vit",)
    why_no_tokens = "needs every token of its grid for its windows and mergings, so none can be pruned"

    def refused_resolution(self, name: str, pixels: int) -> str | None:
        smallest = SMALLEST_WINDOW * STRIDE
        if pixels >= smallest and pixels % STRIDE == 0:
            return None
        below = pixels // STRIDE * STRIDE
        near = " and ".join(str(size) for size in (below, below + STRIDE) if size >= smallest) or str(smallest)
        return (
            f"windows of whole tokens do not divide the maps of {name} at {pixels} pixels: allowed are "
            f"multiples of {STRIDE} from {smallest} on (the nearest: {near})"
        )

    def resolution_arguments(self, name: str, pixels: int) -> dict[str, Any]:
        return self._arguments(self.own_windows(name, pixels))

    def maps(self, name: str, pixels: int) -> tuple[int, ...]:
        return pixels // 8, pixels // 16, pixels // 32

    def own_windows(self, name: str, pixels: int) -> tuple[int, ...]:
        native = self.native_resolution(name)
        stages: Any = cast(TinyVit, self.unbuilt(name)).stages
        return tuple(int(stage.blocks[0].window_size) * pixels // native for stage in list(stages)[1:])

    def window_arguments(self, name: str, pixels: int, window: int) -> dict[str, Any]:
        return self._arguments(clipped(window, self.maps(name, pixels)))

    @staticmethod
    def _arguments(windows: tuple[int, ...]) -> dict[str, Any]:
        """timm expects a window for the first stage too, which has no attention."""
        return {"window_sizes": (windows[0], *windows)}
