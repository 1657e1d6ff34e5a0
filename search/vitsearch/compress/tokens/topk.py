"""Keep the patch tokens that the class token attends to most; "a surprisingly strong baseline" (Haurum et
al., "Which tokens to use?", 2023)."""

from __future__ import annotations

import torch

from vitsearch.compress.tokens.base import DroppingBlock, most, take


class TopKBlock(DroppingBlock):
    def reduce(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Prefix and kept patches: (batch, prefix + kept, channels)."""
        prefix = self.layout.prefix
        kept = take(x, most(attended, self.kept) + prefix)
        return torch.cat([x[:, :prefix], kept], dim=1)
