"""timm's ViTs with relative positions, as a family of backbones of a package of its own."""

from typing import Any, cast

from vitsearch.backbones.found_family import FoundFamily
from vitsearch.core.image_size import ImageSize


class RelPosFamily(FoundFamily):
    """ViTs with relative positions (timm, after Swin V2)."""

    family = "vit_relpos"
    modules = ("vision_transformer_relpos",)
    why_no_tokens = "adds a position bias for each pair of tokens, so none can be dropped"

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        patch = int(cast(Any, self.unbuilt(name)).patch_embed.patch_size[0])
        if all(side % patch == 0 for side in size.sides):
            return None
        return f"{size} pixels are not a multiple of the patch size {patch} of {name}"
