"""FastViT (Vasu et al. 2023), including MobileCLIP's image encoders: branches that become one convolution when
deployed.

Training uses several branches with a batch norm each, the deployed model one convolution with the same output. Merged
layers stay whole.
"""

from __future__ import annotations

from vitsearch.backbones.found_family import FoundFamily


class FastViTFamily(FoundFamily):
    """See `vitsearch.models.backbone.Backbone`."""

    family = "fastvit"
    modules = ("fastvit",)
    why_no_heads = "has no attention whose heads could be removed"
    why_no_tokens = "needs its tokens as a full 2-D map, so none can be dropped"
