"""Swin transformers V2 (Liu et al. 2022): cosine attention in shifted windows, norms behind the branches.

Positions are a continuous function of the distance, computed by a small network with one output for each head, so no
table has to be resampled.
"""

from __future__ import annotations

from typing import Any

from timm.models.swin_transformer_v2 import WindowAttention

from vitsearch.backbones.swin import SwinFamily
from vitsearch.core.image_size import ImageSize
from vitsearch.models.backbone import Built, ModelSpec


class SwinV2Family(SwinFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "swinv2"
    modules = ("swin_transformer_v2",)

    def build(self, spec: ModelSpec) -> Built:
        """Make timm call `qkv` as a layer and add its bias afterwards, so that hooks on the layer see its input."""
        built = super().build(spec)
        for module in built.model.modules():
            if isinstance(module, WindowAttention):
                module.qkv_bias_separate = True
        return built

    def window_arguments(self, name: str, size: ImageSize, window: int) -> dict[str, Any]:
        """Distances are measured in units of the model's own window, so that two tokens keep their distance."""
        layers: Any = self.unbuilt(name).layers
        trained = [stage.blocks[0].attn.pretrained_window_size[0] for stage in layers]
        own, native = self.own_windows(name, size), self._native_side(name)
        measures = tuple(
            (side * size.height // native or rows, side * size.width // native or columns)
            for side, (rows, columns) in zip(trained, own, strict=True)
        )
        return super().window_arguments(name, size, window) | {"pretrained_window_sizes": measures}
